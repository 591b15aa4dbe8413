"""What happens around every Kedro session: tables are made ready, MLflow's run is opened."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, NotCalledForError, causes

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.pipeline.node import Node
    from sqlalchemy import Connection

_TRACKING_URI = "MLFLOW_TRACKING_URI"
# Marks runs of which a lock in the database tells whether their process lives.
_HELD_TAG = "mlops.is_held"

_LOGGER = logging.getLogger(__name__)


class ProjectHooks:
    """Makes the tables ready before a run and sums up after it."""

    _contract: Contract
    _metric: str
    _results: dict[str, Any]

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: Any) -> None:
        """Bring the tables up to date; refuse a metric that would have a model trained in vain."""
        from mlops_for_mle.database.engine import database_url
        from mlops_for_mle.database.schema import prepare
        from mlops_for_mle.releases.metrics import GREATER_IS_BETTER

        self._results = {}
        self._contract = contract = Contract.model_validate(catalog.load("params:contract"))
        self._metric = metric = catalog.load("params:gates.metric")
        allowed = GREATER_IS_BETTER[contract.target.task]
        if metric not in allowed:
            raise ConfigurationError(
                f"gates.metric: contract {contract.name} is a {contract.target.task}, allowed are "
                f"{', '.join(allowed)} (found {metric!r})"
            )
        prepare(database_url(), contract)

    @hook_impl
    def before_node_run(self, node: "Node") -> None:
        """Say which step begins, in one short line."""
        _LOGGER.info("%s …", node.name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Remember what this run decided and found; another may run at the same time."""
        if dataset_name in ("champion@decision", "summary"):
            self._results[dataset_name] = data

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Say how a pipeline sums itself up, and sum up after the whole line."""
        import click

        if "summary" in self._results:
            click.echo(self._results["summary"])
        if "__default__" in _pipeline_names(run_params):
            from mlops_for_mle.commands.model import project_summary
            from mlops_for_mle.database.engine import database_url

            decision, env = self._results.get("champion@decision"), run_params.get("env")
            run_id = decision.run_id if decision else None
            url = database_url()
            click.echo(project_summary(self._contract, self._metric, url, env, run_id))


class MlflowHooks:
    """kedro-mlflow's hook, which connects to MLflow only for pipelines that are tracked.

    kedro-mlflow 2.0 opens the tracking store in every session and makes every dataset of the
    catalog: half of the start-up time of a pipeline that logs nothing.
    """

    _context: "KedroContext"
    _hook: Any = None
    _is_tracked = False
    _held: "Connection | None" = None

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Read ``mlflow.yml`` and point MLflow's client at its server, without asking it."""
        import mlflow
        from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
        from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

        # A hook of its own: it would open the run of this process's last session again.
        self._context, self._hook = context, MlflowHook()
        config = KedroMlflowConfig.model_validate(context.config_loader["mlflow"])
        object.__setattr__(context, "mlflow", config)
        if mlflow.active_run() is None:
            with tracking_variable_kept():
                mlflow.set_tracking_uri(config.server.mlflow_tracking_uri)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Connect and open the run, if the pipeline is tracked; end those of killed processes."""
        options: Any = self._context.mlflow  # type: ignore[attr-defined]
        untracked = set(options.tracking.disable_tracking.pipelines)
        self._is_tracked = not _pipeline_names(run_params) <= untracked
        if not self._is_tracked:
            return
        import mlflow

        from mlops_for_mle.database.engine import database_url, engine_for, lock

        with engine_for(database_url()).begin() as connection, tracking_variable_kept():
            # It makes the experiment where it is missing; two at once would collide.
            lock(connection, "MLflow experiment")
            self._hook.after_context_created(self._context)
        _end_runs_of_the_dead(options.tracking.experiment.name)
        self._hook.before_pipeline_run(run_params, pipeline, catalog)
        self._held = _try_to_hold(self._hook.run_id)
        mlflow.set_tag(_HELD_TAG, "yes")

    @hook_impl
    def before_node_run(
        self, node: Any, catalog: Any, inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Log the parameters of the node, if the pipeline is tracked."""
        if self._is_tracked:
            self._hook.before_node_run(node, catalog, inputs, is_async)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Close the run, and say where people find it if MLflow itself would not know."""
        if not self._is_tracked:
            return
        import mlflow

        from mlops_for_mle.config import public_address, run_page

        run: Any = mlflow.active_run()
        self._hook.after_pipeline_run(run_params, pipeline, catalog)
        self._let_go()
        if public_address("MLFLOW"):
            _LOGGER.info("MLflow run: %s", run_page(run.info.experiment_id, run.info.run_id))

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Any, catalog: Any
    ) -> None:
        """Close the run as failed; what was not called for leaves none."""
        if not self._is_tracked:
            return
        import mlflow

        run = mlflow.active_run()
        self._hook.on_pipeline_error(error, run_params, pipeline, catalog)
        if run is not None and any(isinstance(one, NotCalledForError) for one in causes(error)):
            mlflow.delete_run(run.info.run_id)
        self._let_go()

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


@contextmanager
def tracking_variable_kept() -> Iterator[None]:
    """Keep what a person has set or not set, which MLflow overwrites as it is pointed at a server.

    The next session would take that for a person's choice.
    """
    before = os.environ.get(_TRACKING_URI)
    try:
        yield
    finally:
        os.environ.pop(_TRACKING_URI, None)
        if before is not None:
            os.environ[_TRACKING_URI] = before


def _pipeline_names(run_params: dict[str, Any]) -> set[str]:
    single = run_params.get("pipeline_name")
    return {single} if single else set(run_params.get("pipeline_names") or ["__default__"])


def _end_runs_of_the_dead(experiment: str) -> None:
    """End as KILLED what is RUNNING although the process that held its lock is gone."""
    import mlflow

    held = f"attributes.status = 'RUNNING' AND tags.`{_HELD_TAG}` = 'yes'"
    for run in mlflow.search_runs(
        experiment_names=[experiment], filter_string=held, output_format="list"
    ):
        connection = _try_to_hold(run.info.run_id)
        if connection is not None:
            mlflow.MlflowClient().set_terminated(run.info.run_id, "KILLED")
            connection.close()


def _try_to_hold(run_id: str) -> "Connection | None":
    """Take the lock that tells others that a run's process lives; None where it does already.

    The lock goes with the connection, which is of no pool, so at the latest with this process.
    """
    from sqlalchemy import text

    from mlops_for_mle.database.engine import database_url, engine_for

    connection = engine_for(database_url()).connect()
    connection.detach()
    query = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
    if connection.scalar(query, {"name": f"run {run_id}"}):
        connection.commit()
        return connection
    connection.close()
    return None
