"""``GET /``: the page for people. Its files are in ``serving/page``; it loads nothing else."""

from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, Request, Response

from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.http.static_files import read_folder

FOLDER = Path(__file__).resolve().parents[1] / "page"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page_router() -> APIRouter:
    """The routes; not part of the API's document."""
    files = read_folder(FOLDER)
    headers = {"Content-Security-Policy": POLICY}
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        return files["index.html"].response(request, headers)

    @router.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def file(name: str, request: Request) -> Response:
        if name not in files:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"The page has no file {name[:80]!r}")
        return files[name].response(request, headers)

    return router
