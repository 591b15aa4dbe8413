"""What happens around every Kedro session: parameters are checked, tables are made ready."""

import logging
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from mlops_for_mle.contract import Contract
from mlops_for_mle.parameters import check_parameters

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.pipeline.node import Node

    from mlops_for_mle.monitoring_run import MonitoringRun

_LOGGER = logging.getLogger(__name__)


class ProjectHooks:
    """Hooks of the project."""

    def __init__(self) -> None:
        self._contract: Contract | None = None
        self._metric = ""
        self._candidate: str | None = None
        self._monitored: MonitoringRun | None = None

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: "KedroContext") -> None:
        """Check the parameters before anything starts.

        Raises:
            ConfigurationError: A parameter is wrong; the message names each.
        """
        raw = context.config_loader["parameters"]
        self._contract = check_parameters(raw)
        self._metric = raw["gates"]["metric"]

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Bring the tables up to date before the first node runs."""
        del run_params
        self._candidate = self._monitored = None
        if self._contract is None:
            return
        from mlops_for_mle.database import database_url, prepare

        prepare(database_url(), self._contract)

    @hook_impl
    def before_node_run(self, node: "Node") -> None:
        """Say which step begins, in one short line."""
        _LOGGER.info("%s …", node.name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Remember what this run decided and found; another may run at the same time."""
        if dataset_name == "champion@decision":
            self._candidate = data.run_id
        elif dataset_name == "monitoring_runs":
            self._monitored = data

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Sum up after the whole line or monitoring has run."""
        names = set(run_params.get("pipeline_names") or [run_params.get("pipeline_name")])
        if self._contract is None or not names & {None, "__default__", "monitoring"}:
            return
        import click

        from mlops_for_mle.database import database_url

        if "monitoring" in names:
            from mlops_for_mle.commands.monitoring import last_summary, summarise

            click.echo(
                last_summary(database_url(), self._contract.name)
                if self._monitored is None
                else summarise(self._monitored)
            )
        if names & {None, "__default__"}:
            from mlops_for_mle.commands.model import project_summary

            url, env = database_url(), run_params.get("env")
            told = project_summary(self._contract, self._metric, url, env, self._candidate)
            click.echo(told)
