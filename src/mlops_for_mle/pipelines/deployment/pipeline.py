"""Wiring of the pipeline deployment."""

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.deployment.nodes import release_champion, verify_release


def create_pipeline() -> Pipeline:
    """The champion to a verified release and a row in the audit trail."""
    return Pipeline(
        [
            node(
                release_champion,
                "champion@release",
                ["release", "released"],
                name="release_champion",
            ),
            node(verify_release, ["released", "release"], "deployments", name="verify_release"),
        ],
        tags="deployment",
    )
