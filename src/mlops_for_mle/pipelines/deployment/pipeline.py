"""Wiring of the pipeline deployment."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.deployment import nodes


def create_pipeline() -> Pipeline:
    """The champion to a verified release and a row in the audit trail."""
    return Pipeline(
        [
            node(
                nodes.build_release,
                inputs="champion@bundle",
                outputs="release",
                name="build_release",
            ),
            node(
                nodes.plan_deployment,
                inputs="release",
                outputs="deployments",
                name="plan_deployment",
            ),
        ],
        tags="deployment",
    )
