"""``GET /deployments`` and ``POST /deployments/rollback``: the audit trail and the way back."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlops_for_mle.errors import UserError, error_message
from mlops_for_mle.releases.manifest import Deployment
from mlops_for_mle.releases.store import ReleaseStore
from mlops_for_mle.serving.context import json_body
from mlops_for_mle.serving.database import Pool
from mlops_for_mle.serving.errors import MAX_FAULTS, ProblemError, not_ready
from mlops_for_mle.serving.openapi import json_request
from mlops_for_mle.serving.request import current_request

if TYPE_CHECKING:
    from mlops_for_mle.serving.services import Services

_SHOWN_RELEASES, _SHOWN_ROWS = 8, 50

Body = TypeVar("Body", bound=BaseModel)


class Rollback(BaseModel):
    """What to go back to: a release, or without its name the one that was served before.

    ``current_deployment`` is the row that the caller takes for the current one.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    release: str | None = Field(default=None, min_length=1, max_length=200)
    reason: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")
    current_deployment: int | None = None


def router(services: "Services") -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/deployments", tags=["deployments"])
    store = ReleaseStore(services.settings.release_store)
    # Of their own, since a store that hangs holds up whoever asks it.
    database = Pool("deployments", services.settings.max_concurrency)

    @lru_cache(maxsize=64)
    def measured(contract: str, release: str) -> dict[str, Any]:
        # A manifest never changes, and is large beside these.
        return store.manifest(contract, release).model_dump(include={"estimator", "metrics"})

    def described(row: Deployment, current: str) -> dict[str, Any]:
        facts = {"release": row.release, "model_version": row.model_version}
        facts |= {"is_current": row.release == current, "problem": None}
        try:
            return facts | measured(row.contract, row.release)
        except UserError as error:
            return facts | {"problem": error_message(error), "estimator": None, "metrics": {}}

    @routes.get("", summary="The audit trail of deployments")
    @database.endpoint
    def history() -> dict[str, Any]:
        from mlops_for_mle.releases import deployments

        contract = followed_contract(services)
        with database.begin() as connection:
            rows = deployments.history(connection, contract)
        newest_of = {row.release: row for row in reversed(rows)}
        newest = sorted(newest_of.values(), key=lambda row: row.id, reverse=True)
        return {
            "contract": contract,
            "current": rows[0].id if rows else None,
            "previous": deployments.previous_release(rows),
            "deployments": rows[:_SHOWN_ROWS],
            "releases": [described(row, rows[0].release) for row in newest[:_SHOWN_RELEASES]],
        }

    @routes.post(
        "/rollback",
        summary="Serve an earlier release again",
        description="Every server follows within its poll time, and the champion of the registry "
        "when a pipeline or command asks for it next.",
        status_code=201,
        openapi_extra=json_request(Rollback.model_json_schema()),
    )
    @database.endpoint
    def rollback() -> Deployment:
        from mlops_for_mle.releases import deployments

        wanted = body_as(Rollback)
        with database.begin() as connection:
            try:
                return deployments.roll_back(
                    connection,
                    store,
                    followed_contract(services),
                    reason=wanted.reason,
                    actor=f"API key {current_request.get().caller}",
                    release=wanted.release,
                    expected=wanted.current_deployment,
                )
            except UserError as error:
                raise ProblemError(409, error_message(error)) from None

    return routes


def body_as(model: type[Body]) -> Body:
    """A route's body by its Pydantic model."""
    try:
        return model.model_validate(json_body())
    except ValidationError as error:
        raise RequestValidationError(error.errors()[:MAX_FAULTS]) from None


def followed_contract(services: "Services") -> str:
    """The contract whose deployments are followed; ProblemError 503 while it is not known."""
    contract = services.releases.contract
    if contract is None:
        raise not_ready(services.releases.obstacle())
    return contract
