"""``GET /``: the page for people, its predictions, and ``GET /docs``; nothing from elsewhere.

Swagger UI comes from the Python package ``fastapi-offline``, used for nothing but its files.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.staticfiles import StaticFiles

from mlops_for_mle.serving.context import Services
from mlops_for_mle.serving.openapi import problems
from mlops_for_mle.serving.predict import served_by

if TYPE_CHECKING:
    from mlops_for_mle.contract import Contract

FOLDER = Path(__file__).resolve().parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI sets style attributes and draws its icons from data URLs.
DOCS_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace(
    "img-src 'self'", "img-src 'self' data:"
)

_STEP_SECONDS, _SPAN_SECONDS, _FRESH_SECONDS = 5, 300, 1.0
_INTERVALS = """
SELECT floor(extract(epoch FROM created_at) / :step)::bigint * :step AS start,
    CASE WHEN :has_classes THEN prediction END AS value, count(*) AS count,
    sum(prediction::numeric) AS total, min(prediction) AS minimum, max(prediction) AS maximum
FROM predictions
WHERE contract = :contract AND created_at >= now() - make_interval(secs => :span)
GROUP BY 1, 2 ORDER BY 1
"""
_NEWEST = """
SELECT prediction_id, extract(epoch FROM created_at)::float8 AS answered_at, prediction AS value,
    label, (SELECT max(one) FROM unnest(probabilities) AS one) AS probability, features,
    model_version
FROM predictions WHERE contract = :contract
ORDER BY created_at DESC, prediction_id DESC LIMIT 50
"""


class Prediction(BaseModel):
    """One predicted row; ``answered_at`` counts seconds since 1970, UTC."""

    prediction_id: str
    answered_at: float
    value: float
    label: str | None
    probability: float | None
    features: dict[str, Any]
    model_version: int


class PredictionInterval(BaseModel):
    """The predictions of some seconds.

    Attributes:
        start: Seconds since 1970, UTC.
        counts: How many by class value; a regression has the one key ``""``.
        total: The sum of a regression's answers.
        minimum: The least of them.
        maximum: The largest of them.
    """

    start: int
    counts: dict[str, int]
    total: float = 0.0
    minimum: float | None = None
    maximum: float | None = None


class LatestPredictions(BaseModel):
    """What was predicted lately: the oldest interval first, the newest prediction first."""

    now: float
    interval_seconds: int
    intervals: list[PredictionInterval]
    predictions: list[Prediction]


def router(services: Services) -> APIRouter:
    """The routes; the files are not part of the API's document."""
    found = APIRouter()
    page = _Files(POLICY, directory=FOLDER)
    docs = _Files(DOCS_POLICY, directory=FOLDER / "docs", packages=[("fastapi_offline", "static")])
    recent = _Recent(services)

    @found.get("/", include_in_schema=False)
    async def start(request: Request) -> Response:
        return await page.get_response("index.html", request.scope)

    @found.get("/page/{name}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        return await page.get_response(name, request.scope)

    @found.get("/docs", include_in_schema=False)
    async def documentation(request: Request) -> Response:
        return await docs.get_response("index.html", request.scope)

    @found.get("/docs/{name}", include_in_schema=False)
    async def documentation_file(name: str, request: Request) -> Response:
        return await docs.get_response(name, request.scope)

    @found.get(
        "/predictions/recent",
        tags=["prediction"],
        summary="What was predicted in the last minutes",
        responses=problems({"503": "No release is loaded, or the database does not answer"}),
    )
    @services.database.own.endpoint
    def latest() -> LatestPredictions:
        return recent.read()

    return found


class _Files(StaticFiles):
    """Files with the policy that their page needs."""

    def __init__(self, policy: str, **where: Any) -> None:
        super().__init__(**where)
        self._headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        response = super().file_response(*arguments, **options)
        response.headers.update(self._headers)
        return response


class _Recent:
    """Reads the prediction log, once a second for all who look at the page."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = Lock()
        self._known: tuple[float, LatestPredictions] | None = None

    def read(self) -> LatestPredictions:
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH_SECONDS:
                contract = served_by(self._services).contract
                self._known = (time.monotonic(), self._look(contract))
            return self._known[1]

    def _look(self, contract: "Contract") -> LatestPredictions:
        from sqlalchemy import text

        has_classes = bool(contract.target.classes)
        with self._services.database.own.begin() as connection:
            given = {"contract": contract.name, "step": _STEP_SECONDS, "span": _SPAN_SECONDS}
            counted = connection.execute(text(_INTERVALS), given | {"has_classes": has_classes})
            intervals = _intervals(counted.all(), has_classes=has_classes)
            newest = connection.execute(text(_NEWEST), {"contract": contract.name})
            predictions = [Prediction.model_validate(dict(row)) for row in newest.mappings()]
        return LatestPredictions(
            now=time.time(),
            interval_seconds=_STEP_SECONDS,
            intervals=intervals,
            predictions=predictions,
        )


def _intervals(rows: Sequence[Any], *, has_classes: bool) -> list[PredictionInterval]:
    found: dict[int, PredictionInterval] = {}
    for start, value, count, total, minimum, maximum in rows:
        one = found.setdefault(start, PredictionInterval(start=start, counts={}))
        one.counts["" if value is None else str(int(value))] = count
        if not has_classes:
            # A sum may be larger than any float.
            largest = sys.float_info.max
            one.total = float(min(max(total, -largest), largest))
            one.minimum, one.maximum = minimum, maximum
    return list(found.values())
