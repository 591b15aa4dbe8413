"""What happens around every Kedro session."""

import atexit
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import local
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import click
from kedro.framework.hooks import hook_impl

from mlops_for_mle.config import mlflow_artifact_location, public_address
from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import UserError, is_nothing_to_do

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext
    from kedro.pipeline.node import Node
    from sqlalchemy import Connection

# What is set for a while: the next session would take it for a person's choice.
_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
# The database of which a lock tells whether a run's process lives; a server has runs of others.
_LOCKED_IN_TAG = "mlops.held_in"
_SERVER = "SELECT system_identifier || '/' || hashtext(current_database()) FROM pg_control_system()"
# Where an administrator has forbidden that, a dead run stays as it is.
_MAY_READ_SERVER = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"

# kedro-mlflow's hooks of tracked runs, by their catalogs: the ThreadRunner's nodes are in threads.
_TRACKED: WeakValueDictionary[int, Any] = WeakValueDictionary()

_LOGGER = logging.getLogger(__name__)


class ProjectHooks(local):
    """Makes the tables ready, keeps the MLflow run of pipelines that are tracked, and sums up.

    kedro-mlflow's own hook would open the tracking store in every session and make every dataset of
    the catalog. What a run keeps is its thread's: Kedro's server has several runs at once.
    """

    _context: "KedroContext"
    _contract: Contract
    # Of a run that is tracked: kedro-mlflow's hook, and the run's lock.
    _mlflow: Any = None
    _lock: "Connection | None"

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Read ``mlflow.yml`` and point MLflow's client at its server, without asking it."""
        import mlflow
        from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig

        self._context = context
        settings = context.config_loader["mlflow"]
        # A server decides for itself.
        if settings["server"]["mlflow_tracking_uri"].startswith("postgresql"):
            experiment = settings["tracking"]["experiment"]
            made_with = experiment.setdefault("create_experiment_kwargs", {})
            made_with.setdefault("artifact_location", mlflow_artifact_location())
        # Kept, since kedro-mlflow reads it again.
        context.config_loader["mlflow"] = settings
        object.__setattr__(context, "mlflow", KedroMlflowConfig.model_validate(settings))
        if mlflow.active_run() is None:
            use_server(context.config_loader)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Bring the tables up to date, and open the run of a pipeline that is tracked."""
        from mlops_for_mle.database.engine import database_url
        from mlops_for_mle.database.schema import ensure_observations, upgrade

        self._mlflow, self._lock = None, None
        # An id comes again.
        _TRACKED.pop(id(catalog), None)
        self._contract = Contract.model_validate(catalog.load("params:contract"))
        upgrade(database_url())
        # What is served is monitored also where the contract waits for a change of its table.
        if any(name.startswith(("observations", "scoring")) for name in pipeline.datasets()):
            ensure_observations(database_url(), self._contract)
        tracking = self._context.mlflow.tracking  # type: ignore[attr-defined]
        names = run_params["pipeline_names"] or ["__default__"]
        if set(names) <= set(tracking.disable_tracking.pipelines):
            from kedro_mlflow.io.catalog.switch_catalog_logging import switch_catalog_logging

            switch_catalog_logging(_entries_of(pipeline, catalog), False)
        else:
            try:
                self._open_run(tracking.experiment.name, run_params, pipeline, catalog)
            except Exception as error:
                # Kedro does not tell of it, and this process's next session would log into the run.
                self.on_pipeline_error(error, run_params, pipeline, catalog)
                raise

    def _open_run(
        self, experiment: str, run_params: dict[str, Any], pipeline: Any, catalog: Any
    ) -> None:
        import mlflow
        from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

        from mlops_for_mle.database.engine import database_url, engine_for, lock, try_lock
        from mlops_for_mle.releases.manifest import CANDIDATE_TAG

        # A hook of its own: it would open the run of this process's last session again.
        self._mlflow = _TRACKED[id(catalog)] = hook = MlflowHook()
        hook.candidate, is_own = None, mlflow.active_run() is None
        # A metric without a key is called like its entry.
        entries = _entries_of(pipeline, catalog)
        named = dict(entries)
        hook.after_catalog_created(named, {}, {}, {}, "", {})
        for name, entry in named.items():
            if entry is not entries[name]:
                catalog[name] = entry
        with engine_for(database_url()).begin() as connection:
            # It makes the experiment where it is missing; two at once would collide.
            lock(connection, "MLflow experiment")
            with _variables_kept():
                hook.after_context_created(self._context)
                is_allowed = connection.exec_driver_sql(_MAY_READ_SERVER).scalar_one()
                ask = _SERVER if is_allowed else "SELECT gen_random_uuid()::text"
                holder = connection.exec_driver_sql(ask).scalar_one()
                query = f"attributes.status = 'RUNNING' AND tags.`{_LOCKED_IN_TAG}` = '{holder}'"
                where = {"experiment_names": [experiment], "output_format": "list"}
                for run in mlflow.search_runs(filter_string=query, **where):
                    # Where its lock is free, the process that held it is gone.
                    if dead := try_lock(database_url(), f"run {run.info.run_id}"):
                        mlflow.MlflowClient().set_terminated(run.info.run_id, "KILLED")
                        dead.close()
                # Before MLflow's own, which would take a run that is interrupted for finished.
                atexit.register(mlflow.end_run, "KILLED")
                hook.before_pipeline_run(run_params, pipeline, catalog)
            self._lock = try_lock(database_url(), f"run {hook.run_id}")
            if is_own:
                mlflow.set_tag(_LOCKED_IN_TAG, holder)
        # Of one run the registry has one version.
        active: Any = mlflow.active_run()
        is_trained = CANDIDATE_TAG in active.data.tags
        names = pipeline.datasets()
        if is_trained and "candidate@trained" in names:
            raise UserError(f"Run {hook.run_id} has its candidate: unset MLFLOW_RUN_ID, or end it.")
        # It would conclude that its own candidate, which there is not, was rejected.
        if not is_trained and "retraining_outcome" in names and "candidate@trained" not in names:
            raise UserError(
                f"Run {hook.run_id} has no candidate to go on with: set MLFLOW_RUN_ID to the "
                "retraining's run that has one, or begin no later than at assemble_candidate."
            )

    @hook_impl
    def before_node_run(
        self, node: "Node", catalog: Any, inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Say which step begins, in one short line, and log its parameters."""
        _LOGGER.info("%s …", node.name)
        if hook := _TRACKED.get(id(catalog)):
            if is_async:
                raise UserError("--async would log to other runs: use --runner ThreadRunner.")
            hook.before_node_run(node, catalog, inputs, is_async)

    @hook_impl
    def after_node_run(self, catalog: Any, outputs: dict[str, Any]) -> None:
        """Remember the candidate that a run has decided on; print a pipeline's summary."""
        if "champion@decision" in outputs and (hook := _TRACKED.get(id(catalog))):
            hook.candidate = outputs["champion@decision"].run_id
        elif "summary" in outputs:
            click.echo(outputs["summary"])

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Close the run, and print a summary after the default pipeline."""
        import mlflow

        if self._mlflow:
            run: Any = mlflow.active_run()
            self._mlflow.after_pipeline_run(run_params, pipeline, catalog)
            self._release_run()
            # Where people find it, if MLflow itself would not know.
            if page := public_address("MLFLOW"):
                path = f"experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
                _LOGGER.info("MLflow run: %s/#/%s", page, path)
        if "__default__" in (run_params["pipeline_names"] or ["__default__"]):
            from mlops_for_mle.commands.model import project_summary

            metric, env = catalog.load("params:gates.metric"), run_params.get("env")
            candidate = self._mlflow and self._mlflow.candidate
            click.echo(project_summary(self._contract, metric, env, candidate))

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Any, catalog: Any
    ) -> None:
        """Close the run as failed; delete it if it had nothing to do, unless it has trained."""
        if not self._mlflow:
            return
        import mlflow

        try:
            if run := mlflow.active_run():
                self._mlflow.on_pipeline_error(error, run_params, pipeline, catalog)
                if run.info.run_id != self._mlflow.candidate and is_nothing_to_do(error):
                    mlflow.delete_run(run.info.run_id)
        finally:
            self._release_run()

    def _release_run(self) -> None:
        import mlflow
        from sqlalchemy.exc import DBAPIError

        atexit.unregister(mlflow.end_run)
        # Another process has it, where a run is continued by its id. One that was lost with the
        # server's connections is no failure of a run that has come to its end.
        if self._lock:
            with suppress(DBAPIError):
                self._lock.close()


def use_server(loader: Any) -> None:
    """Point MLflow's client at the servers of ``mlflow.yml``, without asking them."""
    import mlflow

    server = loader["mlflow"]["server"]
    if name := server.get("credentials"):
        os.environ.update(loader["credentials"][name])
    with _variables_kept():
        mlflow.set_tracking_uri(server["mlflow_tracking_uri"])
        mlflow.set_registry_uri(server.get("mlflow_registry_uri"))


@contextmanager
def _variables_kept() -> Iterator[None]:
    before = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    try:
        yield
    finally:
        for name in _VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)


def _entries_of(pipeline: Any, catalog: Any) -> dict[str, Any]:
    """What a pipeline reads and writes; kedro-mlflow would make the whole catalog."""
    return {name: catalog[name] for name in pipeline.datasets() if name in catalog}
