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
    """Where the model comes from.

    Attributes:
        name: The registered model.
        version: Its version.
        run_id: The MLflow run that trained it.
        estimator: The class of its estimator.
        precision: The element type in which it computes.
        has_probabilities: Whether answers have probabilities.
        metrics: Measured by its training.
    """

    name: str
    version: int
    run_id: str
    estimator: str
    precision: str
    has_probabilities: bool
    metrics: dict[str, float]


class ModelDescription(BaseModel):
    """The facts of the release in service.

    Attributes:
        release: Its name.
        created_at: When it was made.
        loaded_at: When it took over in this process.
        origin: Whether it came from the release store or the local cache.
        deployment: The row of the audit trail that put it into service.
        contract: What requests hold and answers mean.
        model: Where the model comes from, with its metrics.
        snapshot: The rows that it was trained on.
        parity: How the served form compared with the trained one.
        model_sha256: Digest of the served form.
    """

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
