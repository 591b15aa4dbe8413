"""``GET /docs``: the interactive documentation, by Swagger UI out of a Python package.

The package ``fastapi-offline`` is used for nothing but the files that it carries, so that a
browser needs no other server.
"""

from functools import lru_cache
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.http.static_files import StaticFile

# Swagger UI sets style attributes and draws its icons from data URLs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

_SWAGGER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
_OWN_FOLDER = Path(__file__).resolve().parents[1] / "page" / "docs"


def docs_router() -> APIRouter:
    """The routes; not part of the API's document."""
    headers = {"Content-Security-Policy": POLICY}
    router = APIRouter(include_in_schema=False)

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def docs(request: Request) -> Response:
        return _file("index.html").response(request, headers)

    # FastAPI's own route for it would be counted as an unknown one.
    @router.get("/openapi.json")
    async def document(request: Request) -> JSONResponse:
        return JSONResponse(request.app.openapi())

    @router.api_route("/docs/{name}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        if name not in (*_SWAGGER_FILES, "start.js"):
            raise ProblemError(HTTPStatus.NOT_FOUND, f"The documentation has no file {name[:80]!r}")
        return _file(name).response(request, headers)

    return router


@lru_cache(maxsize=8)
def _file(name: str) -> StaticFile:
    if name not in _SWAGGER_FILES:
        return StaticFile(_OWN_FOLDER / name)
    package = find_spec("fastapi_offline")
    if package is None or package.origin is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            "The package fastapi-offline, which carries Swagger UI, is not installed; "
            "the document itself is at /openapi.json",
        )
    return StaticFile(Path(package.origin).parent / "static" / name)
