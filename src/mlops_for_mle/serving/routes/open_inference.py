"""The Open Inference Protocol, version 2, over REST: health, metadata and inference.

The model is named by its contract and versioned as in the registry; only the version of the
release in service is there. Errors are objects with the field ``error``, as the protocol has it.
"""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from mlops_for_mle import __version__
from mlops_for_mle.serving.data_plane import Question
from mlops_for_mle.serving.http.asgi import HotAnswer, HotRequest, header_pairs, json_bytes
from mlops_for_mle.serving.http.bodies import media_type, unsupported_type
from mlops_for_mle.serving.http.hot_routes import Asked, HotRoute
from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.recording import AnsweredPredictions
from mlops_for_mle.serving.releases.served_release import ServedRelease
from mlops_for_mle.serving.responses import error_responses
from mlops_for_mle.serving.services import Services

PREFIX = "/v2"
INFER_PATHS = (
    f"{PREFIX}/models/{{model}}/infer",
    f"{PREFIX}/models/{{model}}/versions/{{version}}/infer",
)
ERROR_SCHEMA: dict[str, Any] = {
    "title": "InferenceError",
    "description": "Why a request was not answered.",
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}

_HEADER_LENGTH = "Inference-Header-Content-Length"


class ServerMetadata(BaseModel):
    """What the server is and which extensions of the protocol it has."""

    name: str = "mlops-for-mle"
    version: str = __version__
    extensions: list[str] = ["binary_tensor_data"]


class TensorMetadata(BaseModel):
    """One input or output; -1 in its shape stands for the number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelParameters(BaseModel):
    """What the protocol has no field for.

    Attributes:
        features: The columns of the input, in their order.
        release: The release in service.
    """

    features: list[str]
    release: str


class ModelMetadata(BaseModel):
    """The model in service."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: ModelParameters


class ServerLive(BaseModel):
    """The process answers."""

    live: bool


class ServerReady(BaseModel):
    """Whether inference requests are answered."""

    ready: bool


class ModelReady(BaseModel):
    """Whether the model answers."""

    name: str
    ready: bool


def infer_routes(services: Services) -> list[HotRoute]:
    """The endpoints for inference."""
    plane = services.data_plane

    def ask(request: HotRequest) -> Asked:
        kind = media_type(request.headers)
        if kind not in {None, "application/json", "application/octet-stream"}:
            raise unsupported_type(request.headers, "application/json, application/octet-stream")
        served = plane.release()
        _require_model(served, *request.path.split("/")[3:6:2])
        read = served.tensor_reader.read(
            request.body, request.headers.get(_HEADER_LENGTH.lower().encode())
        )
        served.tensor_writer.check_outputs(read.request)

        def write(answered: AnsweredPredictions) -> HotAnswer:
            written = served.tensor_writer.write(read.request, answered)
            if written.json_bytes is None:
                return HotAnswer(written.body)
            length = (_HEADER_LENGTH.lower().encode(), b"%d" % written.json_bytes)
            return HotAnswer(written.body, b"application/octet-stream", headers=(length,))

        return Asked(
            Question(served, read.rows, request.started, request.request_id, read.given), write
        )

    return [HotRoute(path, ask, services, inference_problem) for path in INFER_PATHS]


def inference_problem(problem: ProblemError) -> HotAnswer:
    """A problem as the protocol words it: what is wrong with a request is 400 there."""
    status = problem.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    body = json_bytes({"error": problem.detail})
    return HotAnswer(body, status=status, headers=header_pairs(problem))


def open_inference_router(services: Services) -> APIRouter:
    """The routes about the server and its model."""
    router = APIRouter(prefix=PREFIX, tags=["open inference protocol"])
    slot, plane = services.slot, services.data_plane
    unknown = error_responses({"404": "No such model or version"}, "InferenceError")
    missing = error_responses({"503": "No release is loaded"}, "InferenceError")

    @router.get("", summary="The server", operation_id="server_metadata")
    async def server() -> ServerMetadata:
        return ServerMetadata()

    @router.get("/health/live", summary="Whether the process answers", operation_id="server_live")
    async def live() -> ServerLive:
        return ServerLive(live=True)

    @router.get(
        "/health/ready",
        summary="Whether inference requests are answered",
        operation_id="server_ready",
        responses={503: {"model": ServerReady, "description": "No release is loaded"}},
        response_model=ServerReady,
    )
    async def ready() -> JSONResponse:
        is_ready = slot.current is not None
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    def metadata(model: str, version: str | None = None) -> ModelMetadata:
        served = plane.release()
        _require_model(served, model, version)
        return ModelMetadata.model_validate(served.tensor_writer.metadata())

    def model_ready(model: str, version: str | None = None) -> ModelReady:
        _require_model(plane.release(), model, version)
        return ModelReady(name=model, ready=True)

    for path, name in (("", "model"), ("/versions/{version}", "version")):
        router.add_api_route(
            f"/models/{{model}}{path}",
            metadata if path else _without_version(metadata),
            summary="The model's inputs and outputs",
            operation_id=f"{name}_metadata",
            responses=unknown | missing,
            response_model=ModelMetadata,
        )
        router.add_api_route(
            f"/models/{{model}}{path}/ready",
            model_ready if path else _without_version(model_ready),
            summary="Whether the model answers",
            operation_id=f"{name}_ready",
            responses=unknown | missing,
            response_model=ModelReady,
        )
    return router


def _without_version(endpoint: Any) -> Any:
    def answer(model: str) -> Any:
        return endpoint(model)

    return answer


def _require_model(served: ServedRelease, model: str, version: str | None = None) -> None:
    name, found = served.contract.name, str(served.manifest.model.version)
    if model != name:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, f"There is no model {model[:80]!r}; in service is {name!r}"
        )
    if version is not None and version != found:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"There is no version {version[:80]!r} of {name}; in service is {found!r}",
        )
