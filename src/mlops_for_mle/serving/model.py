"""``GET /model``: what is in service and where it comes from."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from mlops_for_mle.contract import Contract
from mlops_for_mle.releases.manifest import Deployment, Parity, SnapshotFacts
from mlops_for_mle.serving.context import Services
from mlops_for_mle.serving.openapi import problems
from mlops_for_mle.serving.predict import served_by
from mlops_for_mle.serving.releases import Origin


class ModelFacts(BaseModel):
    """Where the model comes from, with the metrics of its training."""

    name: str
    version: int
    run_id: str
    estimator: str
    precision: str
    has_probabilities: bool
    metrics: dict[str, float]


class ModelDescription(BaseModel):
    """The facts of the release in service; ``loaded_at`` is when this process took it over."""

    release: str
    created_at: datetime
    loaded_at: datetime
    origin: Origin
    deployment: Deployment
    contract: Contract
    model: ModelFacts
    snapshot: SnapshotFacts
    parity: Parity
    model_sha256: str


def router(services: Services) -> APIRouter:
    """The route."""
    found = APIRouter(tags=["model"])

    @found.get(
        "/model",
        summary="The model in service",
        responses=problems({"503": "No release is loaded"}),
    )
    async def model() -> ModelDescription:
        served = served_by(services)
        manifest = served.manifest
        return ModelDescription(
            release=manifest.release,
            created_at=manifest.created_at,
            loaded_at=served.loaded_at,
            origin=served.origin,
            deployment=served.deployment,
            contract=manifest.contract,
            model=ModelFacts(
                name=manifest.contract.name,
                version=manifest.version,
                run_id=manifest.run_id,
                estimator=manifest.estimator,
                precision=manifest.precision,
                has_probabilities=manifest.has_probabilities,
                metrics=manifest.metrics,
            ),
            snapshot=manifest.snapshot,
            parity=manifest.parity,
            model_sha256=manifest.model_sha256,
        )

    return found
