"""Wiring of the pipeline deployment."""

from typing import Any

from kedro.pipeline import Pipeline, node

from mlops_for_mle.pipelines.deployment.nodes import release_champion, verify_release


def create_pipeline() -> Pipeline:
    """The champion to a verified release and a row in the audit trail."""
    steps: list[Any] = [
        (release_champion, "champion@release", ["release", "released"]),
        (verify_release, ["released", "release"], "deployments"),
    ]
    return Pipeline([node(*step, name=step[0].__name__) for step in steps], tags="deployment")
