"""kedro-mlflow's hook, which connects to MLflow only for pipelines that are tracked.

kedro-mlflow 2.0 opens the tracking store in every session and makes every dataset of the catalog;
together that is half of the start-up time of a pipeline that logs nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from pydantic import ValidationError

from mlops_for_mle.configuration import explain_errors
from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import ConfigurationError

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

_LONGEST_PARAMETER = 6_000
"""Characters of a parameter that MLflow keeps."""


_TRACKING_URI_VARIABLE = "MLFLOW_TRACKING_URI"


@contextmanager
def variable_kept() -> Iterator[None]:
    """Keep what a person has set or not set, while MLflow is pointed at its server.

    MLflow would write the variable, and the next session would take that for a person's choice.
    """
    before = os.environ.get(_TRACKING_URI_VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_TRACKING_URI_VARIABLE, None)
        else:
            os.environ[_TRACKING_URI_VARIABLE] = before


class DeferredMlflowHook:
    """Names the tracking server at once, and connects when a tracked pipeline runs.

    Everything around a tracked run is kedro-mlflow's own hook, which is made for each session and
    imported only then: whatever Kedro imports together with its settings slows every command.
    """

    def __init__(self) -> None:
        self._context: KedroContext | None = None
        self._hook: Any = None
        self._is_tracked = False
        self._logged_as_files: set[str] = set()

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Read ``mlflow.yml`` and point MLflow's client at its server, without asking it.

        Raises:
            ConfigurationError: A value of it is wrong; the message names each.
        """
        import mlflow
        from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
        from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

        self._context = context
        self._logged_as_files = set()
        # A hook of its own: it would open the run of this process's last session again.
        self._hook = MlflowHook()
        self._hook._already_active_mlflow = mlflow.active_run() is not None
        try:
            config = KedroMlflowConfig.model_validate(context.config_loader["mlflow"])
        except ValidationError as error:
            raise ConfigurationError("\n".join(explain_errors(error, "mlflow"))) from None
        self._hook.mlflow_config = config
        object.__setattr__(context, "mlflow", self._hook.mlflow_config)
        if mlflow.active_run() is not None:
            return
        with variable_kept():
            mlflow.set_tracking_uri(self._hook.mlflow_config.server.mlflow_tracking_uri)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Connect and open the run, if the pipeline is tracked."""
        single = run_params.get("pipeline_name")
        names = [single] if single else run_params.get("pipeline_names") or ["__default__"]
        options = self._hook.mlflow_config
        self._is_tracked = not set(names) <= set(options.tracking.disable_tracking.pipelines)
        if not self._is_tracked:
            _stop_logging(pipeline, catalog)
            return
        from mlops_for_mle.experiment import ensure_experiment

        ensure_experiment(
            options.server.mlflow_tracking_uri,
            options.tracking.experiment.name,
            options.tracking.experiment.create_experiment_kwargs.artifact_location,
        )
        with variable_kept():
            self._hook.after_context_created(self._context)
        self._hook.before_pipeline_run(run_params, pipeline, catalog)

    @hook_impl
    def before_node_run(
        self, node: Any, catalog: Any, inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Log the parameters of the node, if the pipeline is tracked."""
        if not self._is_tracked:
            return
        long = {
            name: value
            for name, value in inputs.items()
            if name.startswith("params:")
            and isinstance(value, Configuration)
            and len(str(value)) > _LONGEST_PARAMETER
        }
        short = {name: value for name, value in inputs.items() if name not in long}
        # It joins the thread of the node to the run.
        self._hook.before_node_run(node, catalog, short, is_async)
        self._log_as_files(long)

    def _log_as_files(self, parameters: dict[str, Configuration]) -> None:
        """Log what MLflow would cut off, such as the contract of a wide table, once a run."""
        import mlflow

        for name in sorted(parameters.keys() - self._logged_as_files):
            mlflow.log_text(
                str(parameters[name]), f"parameters/{name.removeprefix('params:')}.json"
            )
            self._logged_as_files.add(name)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Close the run."""
        if self._is_tracked:
            self._hook.after_pipeline_run(run_params, pipeline, catalog)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Any, catalog: Any
    ) -> None:
        """Close the run as failed."""
        if self._is_tracked:
            self._hook.on_pipeline_error(error, run_params, pipeline, catalog)


def _stop_logging(pipeline: Any, catalog: Any) -> None:
    """Keep kedro-mlflow's entries of an untracked pipeline from opening a run.

    kedro-mlflow would make every entry of the catalog, to look at each.
    """
    for name in pipeline.datasets():
        dataset = catalog.get(name)
        if type(dataset).__name__.startswith("Mlflow"):
            dataset._logging_activated = False
