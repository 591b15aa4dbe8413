"""kedro-mlflow's hook, which connects to MLflow only for pipelines that are tracked.

kedro-mlflow 2.0 opens the tracking store in every session and makes every dataset of the catalog;
together that is half of the start-up time of a pipeline that logs nothing.
"""

from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext


class DeferredMlflowHook(MlflowHook):  # type: ignore[misc]
    """Names the tracking server at once, and connects when a tracked pipeline runs."""

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Read ``mlflow.yml`` and point MLflow's client at its server, without asking it."""
        import mlflow

        self._context = context
        # kedro-mlflow would open the run of this process's last session again, node by node.
        self.run_id = None
        self._already_active_mlflow = mlflow.active_run() is not None
        self.mlflow_config = KedroMlflowConfig.model_validate(context.config_loader["mlflow"])
        object.__setattr__(context, "mlflow", self.mlflow_config)
        if not self._already_active_mlflow:
            mlflow.set_tracking_uri(self.mlflow_config.server.mlflow_tracking_uri)

    @hook_impl
    def after_catalog_created(self, catalog: Any) -> None:
        """Nothing to do: this catalog has no metric entries that lack a name."""

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Connect and open the run, if the pipeline is tracked."""
        single = run_params.get("pipeline_name")
        names = [single] if single else run_params.get("pipeline_names") or ["__default__"]
        untracked = set(self.mlflow_config.tracking.disable_tracking.pipelines)
        if not set(names) <= untracked:
            from mlops_for_mle.experiment import ensure_experiment

            options = self.mlflow_config
            ensure_experiment(
                options.server.mlflow_tracking_uri,
                options.tracking.experiment.name,
                options.tracking.experiment.create_experiment_kwargs.artifact_location,
            )
            super().after_context_created(self._context)
        super().before_pipeline_run(run_params, pipeline, catalog)
