"""The project's pipelines by name."""

from kedro.pipeline import Pipeline

from mlops_for_mle.pipelines.data_ingestion.pipeline import create_pipeline as data_ingestion
from mlops_for_mle.pipelines.deployment.pipeline import create_pipeline as deployment
from mlops_for_mle.pipelines.monitoring.pipeline import create_pipeline as monitoring
from mlops_for_mle.pipelines.monitoring.pipeline import create_retraining_pipeline
from mlops_for_mle.pipelines.registry.pipeline import create_pipeline as registry
from mlops_for_mle.pipelines.scoring.pipeline import create_pipeline as scoring
from mlops_for_mle.pipelines.training.pipeline import create_pipeline as training


def register_pipelines() -> dict[str, Pipeline]:
    """The pipelines; `kedro run` without a name runs from ingestion to deployment in order."""
    pipelines = {
        "data_ingestion": data_ingestion(),
        "training": training(),
        "registry": registry(),
        "deployment": deployment(),
    }
    pipelines["__default__"] = sum(pipelines.values(), Pipeline([]))
    pipelines["monitoring"] = monitoring()
    pipelines["scoring"] = scoring()
    pipelines["retrain"] = create_retraining_pipeline(
        pipelines["training"], pipelines["registry"], pipelines["deployment"]
    )
    return pipelines
