"""What happens around every Kedro session: parameters are checked, tables are made ready."""

import logging
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from mlops_for_mle.configuration import Configuration, parse_configuration
from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.metric_names import GREATER_IS_BETTER

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.pipeline.node import Node

_LOGGER = logging.getLogger(__name__)


class ProjectHooks:
    """Hooks of the project."""

    def __init__(self) -> None:
        self._contract: Contract | None = None
        self._metric = ""

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: "KedroContext") -> None:
        """Check the parameters before anything starts.

        Raises:
            ConfigurationError: A parameter is wrong; the message names each.
        """
        raw = context.config_loader["parameters"]
        for name, kind in parameter_blocks().items():
            parsed = parse_configuration(kind, raw.get(name), name)
            if isinstance(parsed, Contract):
                self._contract = parsed
        self._metric = raw["gates"]["metric"]
        if self._contract is not None:
            check_metric(self._metric, self._contract)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Bring the tables up to date before the first node runs."""
        del run_params
        if self._contract is None:
            return
        from mlops_for_mle.database import database_url, prepare

        prepare(database_url(), self._contract)

    @hook_impl
    def before_node_run(self, node: "Node") -> None:
        """Say which step begins, in one short line."""
        _LOGGER.info("%s …", node.name)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Sum up after the whole line or monitoring has run."""
        names = set(run_params.get("pipeline_names") or [run_params.get("pipeline_name")])
        if self._contract is None or not names & {None, "__default__", "monitoring"}:
            return
        import click

        from mlops_for_mle.database import database_url

        if "monitoring" in names:
            from mlops_for_mle.commands.monitoring import last_summary

            click.echo(last_summary(database_url(), self._contract.name))
        if names & {None, "__default__"}:
            from mlops_for_mle.commands.versions import Registry, project_summary

            registry = Registry(self._contract, self._metric, database_url(), run_params.get("env"))
            click.echo(project_summary(registry))


def check_metric(metric: str, contract: Contract) -> None:
    """Check that the gates' metric is one of the contract's task.

    Raises:
        ConfigurationError: It is not; a model would be trained and registered in vain.
    """
    task = contract.target.task
    if metric not in GREATER_IS_BETTER[task]:
        raise ConfigurationError(
            f"gates.metric: contract {contract.name} is a {task}, allowed are "
            f"{', '.join(GREATER_IS_BETTER[task])} (found {metric!r})"
        )


def parameter_blocks() -> dict[str, type[Configuration]]:
    """The blocks of parameters and the class that describes each."""
    from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
    from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
    from mlops_for_mle.pipelines.registry.options import GateOptions
    from mlops_for_mle.pipelines.retraining.options import RetrainingOptions
    from mlops_for_mle.pipelines.training.data_checks import DataCheckOptions
    from mlops_for_mle.pipelines.training.options import TrainingOptions
    from mlops_for_mle.scoring.batch_options import ScoringOptions

    return {
        "contract": Contract,
        "ingestion": IngestionOptions,
        "training": TrainingOptions,
        "data_checks": DataCheckOptions,
        "gates": GateOptions,
        "retraining": RetrainingOptions,
        "monitoring": MonitoringOptions,
        "scoring": ScoringOptions,
    }
