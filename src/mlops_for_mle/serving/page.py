"""``GET /``: the page for people, its predictions, and ``GET /docs``; nothing from elsewhere.

Swagger UI comes from the Python package ``fastapi-offline``, used for nothing but its files.
"""

import time
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
    from sqlalchemy import Connection

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
SELECT start, jsonb_object_agg(class, count) AS counts,
    CASE WHEN :has_classes THEN 0 ELSE sum(total) END AS total,
    CASE WHEN NOT :has_classes THEN min(least) END AS minimum,
    CASE WHEN NOT :has_classes THEN max(most) END AS maximum
FROM (
    SELECT floor(extract(epoch FROM created_at) / :step)::bigint * :step AS start,
        CASE WHEN :has_classes THEN prediction::bigint::text ELSE '' END AS class,
        count(*) AS count, sum(prediction::numeric) AS total, min(prediction) AS least,
        max(prediction) AS most
    FROM predictions
    WHERE contract = :contract AND created_at >= now() - make_interval(secs => :span)
    GROUP BY 1, 2
) AS classes GROUP BY start ORDER BY start
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
        total: The sum of a regression's answers; ``minimum`` and ``maximum`` are of these, too.
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
    database, lock = services.database.own, Lock()
    known: tuple[float, LatestPredictions] | None = None

    @found.get("/", include_in_schema=False)
    @found.get("/page/{name}", include_in_schema=False)
    async def page_file(request: Request, name: str = "index.html") -> Response:
        return await page.get_response(name, request.scope)

    @found.get("/docs", include_in_schema=False)
    @found.get("/docs/{name}", include_in_schema=False)
    async def docs_file(request: Request, name: str = "index.html") -> Response:
        return await docs.get_response(name, request.scope)

    @found.get(
        "/predictions/recent",
        tags=["prediction"],
        summary="What was predicted in the last minutes",
        responses=problems({"503": "No release is loaded, or the database does not answer"}),
    )
    @database.endpoint
    def latest() -> LatestPredictions:
        nonlocal known
        # Once a second for all who look at the page.
        with lock:
            if known is None or time.monotonic() - known[0] > _FRESH_SECONDS:
                contract = served_by(services).contract
                with database.begin() as connection:
                    known = (time.monotonic(), _read(connection, contract))
            return known[1]

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


def _read(connection: "Connection", contract: "Contract") -> LatestPredictions:
    from sqlalchemy import text

    given = {"contract": contract.name, "has_classes": bool(contract.target.classes)}
    given |= {"step": _STEP_SECONDS, "span": _SPAN_SECONDS}
    intervals, newest = (
        [dict(row) for row in connection.execute(text(one), given).mappings()]
        for one in (_INTERVALS, _NEWEST)
    )
    return LatestPredictions.model_validate(
        {
            "now": time.time(),
            "interval_seconds": _STEP_SECONDS,
            "intervals": intervals,
            "predictions": newest,
        }
    )
