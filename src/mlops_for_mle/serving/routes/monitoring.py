"""``GET /monitoring``: how the deployed release does, as the monitoring pipeline has found."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from mlops_for_mle.serving.http.problems import not_ready
from mlops_for_mle.serving.responses import problem_responses
from mlops_for_mle.serving.services import Services
from mlops_for_mle.serving.stores.monitoring_store import (
    Area,
    MonitoringRun,
    MonitoringStore,
    Status,
)


class MonitoringNumber(BaseModel):
    """One number of a monitoring run.

    Attributes:
        area: What it is about.
        subject: A feature's name, a class, or what else was looked at.
        metric: What was measured.
        value: None where there was nothing to measure.
        lower: The lower end of the confidence interval.
        upper: Its upper end.
        threshold: What the value was compared with.
        p_value: Of the test behind an alarm, corrected for all tests of the run.
        is_alarm: Whether the value alone makes the run an alarm.
    """

    area: Area
    subject: str
    metric: str
    value: float | None
    lower: float | None
    upper: float | None
    threshold: float | None
    p_value: float | None
    is_alarm: bool


class MonitoringEntry(BaseModel):
    """One monitoring run.

    Attributes:
        id: Its number.
        release: The release whose predictions were looked at.
        model_version: Its version in the registry.
        window_from: When the first of them was answered; None without any.
        window_to: When the last one was.
        prediction_count: How many.
        labelled_count: How many labelled predictions were looked at.
        labelled_from: When the first of these was answered; None without any.
        labelled_to: When the last one was.
        status: ``insufficient`` when there were too few rows to say more.
        reasons: Sentences for people.
        created_at: When the run was recorded.
    """

    id: int
    release: str
    model_version: int
    window_from: datetime | None
    window_to: datetime | None
    prediction_count: int
    labelled_count: int
    labelled_from: datetime | None
    labelled_to: datetime | None
    status: Status
    reasons: list[str]
    created_at: datetime


class NewestMonitoring(MonitoringEntry):
    """The newest monitoring run, with its numbers."""

    metrics: list[MonitoringNumber]


class MonitoringHistory(BaseModel):
    """What monitoring has found.

    Attributes:
        contract: Whose release.
        newest: The newest run; None before the first.
        runs: Runs without their numbers, the newest first.
    """

    contract: str
    newest: NewestMonitoring | None
    runs: list[MonitoringEntry]


def monitoring_router(services: Services, store: MonitoringStore) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["monitoring"])

    @router.get(
        "/monitoring",
        summary="How the deployed release does",
        description="The newest run of `kedro run --pipeline monitoring` with its numbers, and "
        "the runs before it.",
        responses=problem_responses(
            {"422": "A parameter is wrong", "503": "The database is not available"}
        ),
    )
    def monitoring(
        limit: Annotated[int, Query(ge=1, le=200, description="How many runs")] = 50,
        before: Annotated[
            int | None, Query(ge=1, le=2**63 - 1, description="Only runs with a smaller id")
        ] = None,
    ) -> MonitoringHistory:
        contract = services.settings.model or services.slot.status.contract
        if contract is None:
            raise not_ready(services.slot.obstacle())
        found = store.read(contract, limit, before)
        newest = found.newest
        return MonitoringHistory(
            contract=contract,
            newest=None
            if newest is None
            else NewestMonitoring(
                **_facts(newest),
                metrics=[MonitoringNumber(**one._asdict()) for one in newest.metrics],
            ),
            runs=[MonitoringEntry(**_facts(run)) for run in found.runs],
        )

    return router


def _facts(run: MonitoringRun) -> dict[str, object]:
    facts = run._asdict()
    for name in ("contract", "metrics"):
        del facts[name]
    return facts
