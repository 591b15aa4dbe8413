"""``GET /``: the page for people, its predictions, and ``GET /docs``; nothing from elsewhere.

Swagger UI comes from the Python package ``fastapi-offline``, used for nothing but its files.
"""

import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.staticfiles import StaticFiles

from mlops_for_mle.serving.database import rows
from mlops_for_mle.serving.predict import served_by
from mlops_for_mle.serving.services import Services

FOLDER = Path(__file__).resolve().parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI sets style attributes and draws its icons from data URLs.
DOCS_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace(
    "img-src 'self'", "img-src 'self' data:"
)

_STEP_SECONDS = 5
# A regression has no classes: all its answers are those of the class "".
_INTERVALS = """
SELECT start, jsonb_object_agg(class, count) AS counts, sum(total)::float8 AS total,
    min(least) AS minimum, max(most) AS maximum
FROM (
    SELECT floor(extract(epoch FROM created_at) / :step)::bigint * :step AS start,
        CASE WHEN label IS NULL THEN '' ELSE prediction::bigint::text END AS class,
        count(*) AS count, sum(prediction::numeric) AS total, min(prediction) AS least,
        max(prediction) AS most
    FROM predictions
    WHERE contract = :contract AND created_at >= now() - interval '5 minutes'
    GROUP BY 1, 2
) AS classes GROUP BY start ORDER BY start
"""
_NEWEST = """
SELECT prediction_id, extract(epoch FROM created_at)::float8 AS answered_at, prediction AS value,
    label, (SELECT max(chance) FROM unnest(probabilities) AS chance) AS probability, features,
    model_version
FROM predictions WHERE contract = :contract
ORDER BY created_at DESC, prediction_id DESC LIMIT 50
"""


def router(services: Services) -> APIRouter:
    """The routes; the files are not part of the API's document."""
    routes = APIRouter()
    database = services.database
    page = StaticFiles(directory=FOLDER)
    docs = StaticFiles(directory=FOLDER / "docs", packages=[("fastapi_offline", "static")])
    _add_files(routes, "/", "/page", page, POLICY)
    _add_files(routes, "/docs", "/docs", docs, DOCS_POLICY)

    @routes.get(
        "/predictions/recent", tags=["prediction"], summary="What was predicted in the last minutes"
    )
    @database.endpoint
    def latest() -> dict[str, Any]:
        contract = served_by(services).contract.name
        with database.begin() as connection:
            intervals = rows(connection, _INTERVALS, contract=contract, step=_STEP_SECONDS)
            newest = rows(connection, _NEWEST, contract=contract)
        now, step = time.time(), _STEP_SECONDS
        return {"now": now, "interval_seconds": step, "intervals": intervals, "predictions": newest}

    return routes


def _add_files(routes: APIRouter, index: str, folder: str, files: StaticFiles, policy: str) -> None:

    @routes.get(index, include_in_schema=False)
    @routes.get(f"{folder}/{{name}}", include_in_schema=False)
    async def file(request: Request, name: str = "index.html") -> Response:
        answer = await files.get_response(name, request.scope)
        answer.headers.update({"Content-Security-Policy": policy, "Cache-Control": "no-cache"})
        return answer
