"""``GET /deployments`` and ``POST /deployments/rollback``: the audit trail and the way back."""

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.release import ReleaseStore
from mlops_for_mle.serving.guards.access import KEY_IN_STATE
from mlops_for_mle.serving.http.problems import ProblemError, not_ready
from mlops_for_mle.serving.releases.deployment_history import (
    DeploymentHistory,
    RollbackRefusedError,
)
from mlops_for_mle.serving.responses import problem_responses
from mlops_for_mle.serving.services import Services

if TYPE_CHECKING:
    from mlops_for_mle.deployments import DeploymentRow

_SHOWN_RELEASES = 8
_FAILURE = "load_failed"


class DeploymentEntry(BaseModel):
    """One row of the audit trail."""

    id: int
    event: str
    release: str
    model_version: int
    run_id: str
    reason: str
    actor: str
    created_at: datetime


class ReleaseEntry(BaseModel):
    """A release that was deployed.

    Attributes:
        release: Its name.
        model_version: Its version in the registry.
        is_current: Whether it is the one that servers follow.
        estimator: The class of the model; None when the release cannot be read.
        created_at: When it was made.
        row_count: How many rows it was trained and validated on.
        metrics: What was measured when it was trained.
        problem: Why it cannot be read, and so not be gone back to.
    """

    release: str
    model_version: int
    is_current: bool
    estimator: str | None = None
    created_at: datetime | None = None
    row_count: int | None = None
    metrics: dict[str, float] = {}
    problem: str | None = None


class DeploymentList(BaseModel):
    """The audit trail of a contract, the newest first.

    Attributes:
        contract: Whose deployments.
        current: The id of the row that servers follow; None before any.
        deployments: The rows.
        releases: The releases that they name, the latest first.
    """

    contract: str
    current: int | None
    deployments: list[DeploymentEntry]
    releases: list[ReleaseEntry]


class Rollback(BaseModel):
    """What to go back to.

    Attributes:
        release: Its name; without it, the release that was served before.
        reason: Why; stands in the audit trail.
        current_deployment: The row that the caller takes for the current one; when another has
            come in between, nothing is done.
    """

    model_config = ConfigDict(extra="forbid")

    release: str | None = Field(default=None, min_length=1, max_length=200)
    reason: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")
    current_deployment: int | None = Field(default=None, ge=1, le=2**63 - 1)


def deployments_router(services: Services) -> APIRouter:
    """The routes."""
    history = DeploymentHistory(ReleaseStore(services.settings.release_store))
    router = APIRouter(prefix="/deployments", tags=["deployments"])

    @router.get(
        "",
        summary="The audit trail of deployments",
        responses=problem_responses(
            {"422": "A parameter is wrong", "503": "The database is not available"}
        ),
    )
    def deployments(
        limit: Annotated[int, Query(ge=1, le=200, description="How many rows")] = 50,
        before: Annotated[
            int | None, Query(ge=1, le=2**63 - 1, description="Only rows with a smaller id")
        ] = None,
    ) -> DeploymentList:
        contract = _contract(services)
        try:
            rows = history.rows(contract, limit, before)
            current = history.current_row(contract)
        except UserError as error:
            raise not_ready(str(error)) from None
        return DeploymentList(
            contract=contract,
            current=current.id if current is not None else None,
            deployments=[_entry(row) for row in rows],
            releases=_releases(history, rows, current),
        )

    @router.post(
        "/rollback",
        summary="Serve an earlier release again",
        description="Appends a row that names the release; every server follows it within its "
        "poll time. The alias champion of the registry stays as it is, so the next deployment "
        "brings the champion back: promote the version to make the step last.",
        status_code=HTTPStatus.CREATED,
        responses=problem_responses(
            {
                "409": "It is in service already, was never deployed or is no longer whole; or "
                "another deployment has come in between",
                "422": "The body is wrong",
                "503": "The database is not available",
            }
        ),
    )
    def rollback(wanted: Rollback, request: Request) -> DeploymentEntry:
        key = getattr(request.state, KEY_IN_STATE, None)
        if key is None:
            raise ProblemError(HTTPStatus.UNAUTHORIZED, "This needs a key with the scope admin")
        try:
            row = history.roll_back(
                _contract(services),
                release=wanted.release,
                current_deployment=wanted.current_deployment,
                reason=wanted.reason.strip(),
                actor=f"API key {key.name}",
            )
        except (RollbackRefusedError, ReleaseError) as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from None
        except UserError as error:
            raise not_ready(str(error)) from None
        return _entry(row)

    return router


def _contract(services: Services) -> str:
    contract = services.settings.model or services.slot.status.contract
    if contract is None:
        raise not_ready(services.slot.obstacle())
    return contract


def _entry(row: "DeploymentRow") -> DeploymentEntry:
    facts = row._asdict()
    del facts["contract"]
    return DeploymentEntry(**facts)


def _releases(
    history: DeploymentHistory, rows: "list[DeploymentRow]", current: "DeploymentRow | None"
) -> list[ReleaseEntry]:
    latest = {row.release: row for row in reversed(rows) if row.event != _FAILURE}
    found = sorted(latest.values(), key=lambda row: row.id, reverse=True)[:_SHOWN_RELEASES]
    return [_release(history, row, current) for row in found]


def _release(
    history: DeploymentHistory, row: "DeploymentRow", current: "DeploymentRow | None"
) -> ReleaseEntry:
    entry = ReleaseEntry(
        release=row.release,
        model_version=row.model_version,
        is_current=current is not None and current.release == row.release,
    )
    try:
        manifest = history.manifest(row.contract, row.release)
    except ReleaseError as error:
        return entry.model_copy(update={"problem": str(error)})
    return entry.model_copy(
        update={
            "estimator": manifest.model.estimator,
            "created_at": manifest.created_at,
            "row_count": manifest.snapshot.row_count,
            "metrics": manifest.model.metrics,
        }
    )
