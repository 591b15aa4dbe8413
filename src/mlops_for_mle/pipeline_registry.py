"""The project's pipelines by name."""

from kedro.pipeline import Pipeline

from mlops_for_mle.pipelines.data_ingestion.pipeline import create_pipeline as data_ingestion
from mlops_for_mle.pipelines.deployment.pipeline import create_pipeline as deployment
from mlops_for_mle.pipelines.registry.pipeline import create_pipeline as registry
from mlops_for_mle.pipelines.training.pipeline import create_pipeline as training


def register_pipelines() -> dict[str, Pipeline]:
    """The four pipelines; `kedro run` without a name runs them all in order."""
    pipelines = {
        "data_ingestion": data_ingestion(),
        "training": training(),
        "registry": registry(),
        "deployment": deployment(),
    }
    pipelines["__default__"] = sum(pipelines.values(), Pipeline([]))
    return pipelines
