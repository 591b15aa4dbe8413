"""From rows to answers, the one way for every protocol; and ``POST /predict``, which is nearest.

A protocol reads a ``Question`` out of a request. ``answer`` takes some of them at once, which costs
little more than one: it predicts, writes the answers and keeps them, all or none.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

import fastapi
import msgspec
import numpy as np
from uuid_utils import uuid7

from mlops_for_mle.releases.predictor import Predictions
from mlops_for_mle.serving.codec import COLUMNS_KEY, Form, Rows, texts_of
from mlops_for_mle.serving.context import (
    LARGEST_AT_ONCE,
    Answer,
    Request,
    Services,
    media_type,
    timed_out,
    work,
)
from mlops_for_mle.serving.errors import ProblemError, not_ready, refused
from mlops_for_mle.serving.openapi import (
    Schema,
    columns_of,
    example_row,
    json_answer,
    json_request,
    object_of,
    prediction_schemas,
    problems,
    row_schema,
)
from mlops_for_mle.serving.releases import Served

_ROWS_AT_ONCE = 10_000

_DESCRIPTION = """Rows are answered in the form in which they are given:

- one row as an object is answered by an object,
- a list of rows is answered by a list of such objects, in the same order,
- rows by columns are answered by columns; this is the quickest form for many rows.
"""
FAILURES = {
    "400": "The client left in the middle of the body",
    "408": "The body did not arrive in time",
    "413": "The body is too large",
    "415": "The body is of another type, or compressed by something unknown",
    "429": "The server works on as many requests as it may",
    "503": "No release is loaded, or the prediction log can keep no more",
    "504": "The prediction took too long",
}

_PREDICTION_ID: dict[str, Schema] = {
    "prediction_id": {
        "type": "string",
        "description": "Names the prediction in the log and for feedback: a UUID of version 7; row "
        "i of several rows of one request is named <id>-<i>, counted from 0",
    }
}

logger = logging.getLogger(__name__)


class Question(NamedTuple):
    """Rows that wait for the answers of one release; ``write`` makes the answer of a request."""

    served: Served
    rows: Rows
    request: Request
    write: Callable[["Answered"], Answer]
    is_kept: bool = True


class Answered(NamedTuple):
    """A question with its predictions.

    Attributes:
        question: What was asked.
        prediction_id: The id of its predictions. With one row it is that row's id; row ``i`` of
            several has the id ``<prediction_id>-<i>``, counted from 0.
        answered_at: Nanoseconds since 1970, UTC.
        latency_seconds: From the arrival of the request to its prediction.
        predictions: One answer a row.
        texts: The same as JSON lists: the values, and the probabilities of each class.
        counts: How often each class was predicted; of a regression the number of rows.
    """

    question: Question
    prediction_id: str
    answered_at: int
    latency_seconds: float
    predictions: Predictions
    texts: list[bytes]
    counts: dict[int | None, int]


class HotRoute(NamedTuple):
    """A route that predicts: its path, and what reads a question out of a request.

    ``read`` raises ProblemError for what it cannot read.
    """

    path: str
    read: Callable[[Services, Request], Question]


def served_by(services: Services) -> Served:
    """The release in service; taken once a request.

    Raises:
        ProblemError: 503, none is loaded yet.
    """
    served = services.releases.current
    if served is None:
        raise not_ready(services.releases.obstacle())
    return served


def answer(services: Services, questions: Sequence[Question]) -> list[Answer]:
    """Answer questions to one release; they leave afterwards.

    Raises:
        ProblemError: 422, the model has no finite answer for some of the rows; 500, it answers
            with a class that the contract does not have; 503, the log can keep no more; 504, it
            took too long. Then nothing was kept.
    """
    served = questions[0].served
    found = _predict(served, served.codec.matrix([one.rows for one in questions]))
    texts = texts_of(found)
    tokens = [one[1:-1].split(b",") for one in texts] if len(questions) > 1 else []
    seconds = services.settings.request_timeout_seconds
    now, answered_at, start = time.perf_counter(), time.time_ns(), 0
    answered = []
    for one in questions:
        latency, end = now - one.request.started, start + one.rows.count
        if latency > seconds:
            raise timed_out(seconds)
        part = found
        if tokens:
            chances = found.probabilities
            part = Predictions(
                found.values[start:end], None if chances is None else chances[start:end]
            )
            texts = [b"[%b]" % b",".join(column[start:end]) for column in tokens]
        counts = _counts(served, part)
        one.request.facts.prediction_id = name = str(uuid7())
        answered.append(Answered(one, name, answered_at, latency, part, texts, counts))
        start = end
    answers = [one.question.write(one) for one in answered]
    kept = [one for one in answered if one.question.is_kept]
    if kept:
        services.log.keep(kept)
        services.metrics.predicted(kept)
    return answers


def router(services: Services) -> fastapi.APIRouter:
    """The routes."""
    found = fastapi.APIRouter(tags=["prediction"])
    failures = problems(
        FAILURES | {"422": "A row does not fit the contract; names every field that is wrong"}
    )
    add_hot_route(
        found,
        services,
        PREDICT,
        summary="Predict one row or many",
        description=_DESCRIPTION,
        operation_id="predict",
        responses=failures,
    )
    add_hot_route(
        found,
        services,
        PREVIEW,
        summary="Predict one row without keeping it",
        description="For a form that predicts while somebody types: neither logged nor counted as "
        "a prediction, and without a prediction_id.",
        operation_id="preview",
        responses=failures,
    )
    return found


def add_hot_route(
    router: fastapi.APIRouter, services: Services, route: HotRoute, **described: object
) -> None:
    """Make a route that predicts one of FastAPI's: large bodies are answered in a thread."""

    async def endpoint(request: fastapi.Request) -> fastapi.Response:
        state = request.scope["state"]
        headers, body = dict(request.scope["headers"]), await request.body()
        asked = Request(request.url.path, headers, body, state["started"], state["facts"])
        if len(body) <= LARGEST_AT_ONCE:
            found = answer_one(services, route, asked)
        else:
            found = await work(
                services, lambda: answer_one(services, route, asked), asked.facts, request.receive
            )
        return response(found)

    router.add_api_route(
        route.path,
        endpoint,
        methods=["POST"],
        response_class=fastapi.Response,
        **described,  # type: ignore[arg-type]
    )


def answer_one(services: Services, route: HotRoute, request: Request) -> Answer:
    """Answer one request.

    Raises:
        ProblemError: It cannot be answered.
    """
    return answer(services, [route.read(services, request)])[0]


def response(answer: Answer) -> fastapi.Response:
    """An answer as FastAPI sends it."""
    found = fastapi.Response(answer.body, answer.status, media_type=answer.content_type.decode())
    found.raw_headers += answer.headers
    return found


def _read_predict(services: Services, request: Request) -> Question:
    media_type(request.headers, "application/json")
    served = served_by(services)
    return Question(served, served.codec.read(request.body), request, _write_predict)


def _write_predict(answered: Answered) -> Answer:
    question = answered.question
    codec = question.served.codec
    return Answer(
        codec.answer(question.rows, answered.predictions, answered.texts, answered.prediction_id)
    )


def _read_preview(services: Services, request: Request) -> Question:
    question = _read_predict(services, request)
    if question.rows.form is not Form.ONE:
        raise refused("", "holds many rows", "one row as an object")
    return question._replace(write=_write_preview, is_kept=False)


def _write_preview(answered: Answered) -> Answer:
    document = msgspec.json.decode(_write_predict(answered).body)
    del document["prediction_id"]
    return Answer(msgspec.json.encode(document))


PREDICT = HotRoute("/predict", _read_predict)
PREVIEW = HotRoute("/predict/preview", _read_preview)


def _predict(served: Served, matrix: np.ndarray) -> Predictions:
    starts = range(0, len(matrix), _ROWS_AT_ONCE)
    parts = [served.predictor.predict(matrix[at : at + _ROWS_AT_ONCE]) for at in starts]
    found = parts[0]
    if len(parts) > 1:
        values, chances = zip(*parts, strict=True)
        by_class = None if found.probabilities is None else np.concatenate(chances)
        found = Predictions(np.concatenate(values), by_class)
    numbers = found.values if found.probabilities is None else found.probabilities
    if not np.isfinite(numbers).all():
        raise refused("", "the model has no finite answer", "values it was trained on")
    return found


def _counts(served: Served, predictions: Predictions) -> dict[int | None, int]:
    """How often each class was predicted.

    Raises:
        ProblemError: 500, one is none of the contract's; a model of more classes passes every
            check when its example shows none of the others.
    """
    labels = served.contract.target.labels
    if not labels:
        return {None: len(predictions.values)}
    codes = predictions.values.tolist()
    counts: dict[int | None, int] = {codes[0]: 1} if len(codes) == 1 else dict(Counter(codes))
    unknown = next((one for one in counts if one not in labels), None)
    if unknown is not None:
        detail = (
            f"Release {served.manifest.release} predicted {unknown}, which is none of the classes "
            f"of contract {served.contract.name}"
        )
        _complain(detail)
        raise ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
    return counts


@lru_cache(maxsize=8)
def _complain(detail: str) -> None:
    """Say it once, not for every request."""
    logger.error("%s: deploy another release", detail)


def operations(served: Served) -> dict[str, Schema]:
    """What the document says of the routes, for a release."""
    row = row_schema(served.contract, served.manifest.precision)
    release = {"model_version": {"type": "integer"}, "release": {"type": "string"}}
    of_row = prediction_schemas(served)
    preview, one = object_of(of_row | release), object_of(of_row | _PREDICTION_ID | release)
    rows = [row, {"type": "array", "items": row, "minItems": 1}]
    columns = object_of({COLUMNS_KEY: {"type": "object"}} | _PREDICTION_ID | release)
    given = example_row(served.contract)
    return {
        PREVIEW.path: {
            "request": json_request(row, one_row=given),
            "answer": json_answer("The prediction", preview),
        },
        PREDICT.path: {
            "request": json_request(
                {"oneOf": [*rows, object_of({COLUMNS_KEY: columns_of(row)})]},
                one_row=given,
                a_list_of_rows=[given, given],
                columns={COLUMNS_KEY: {name: [value] for name, value in given.items()}},
            ),
            "answer": json_answer(
                "The predictions", {"oneOf": [one, {"type": "array", "items": one}, columns]}
            ),
        },
    }
