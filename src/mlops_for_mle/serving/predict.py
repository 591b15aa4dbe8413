"""From rows to answers, the one way for every protocol; and ``POST /predict``, which is nearest.

A protocol reads a ``Question`` out of a request. ``answer`` takes some of them at once, which costs
little more than one: it predicts, writes the answers and keeps them, all or none.
"""

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

import fastapi
import msgspec
import numpy as np
from uuid_utils import uuid7

from mlops_for_mle.releases.predictor import Predictions
from mlops_for_mle.releases.ranges import Outside
from mlops_for_mle.serving.codec import COLUMNS_KEY, OUTSIDE_KEY, Form, Rows, texts_of
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
    OUTSIDE_WORDS,
    RELEASE_SCHEMAS,
    Schema,
    answer_schema,
    example_row,
    json_answer,
    json_request,
    object_of,
    problems,
    row_schema,
)
from mlops_for_mle.serving.releases import Served

_FORMS = (
    "A row as an object is answered by an object, a list of them by a list in the same order, and "
    "rows by columns by columns, which is the quickest form for many rows, of which 100,000 may be "
    "in one request."
)
_FOR_A_FORM = (
    "For a form that predicts while somebody types: neither logged nor counted as a prediction, "
    "and without a prediction_id."
)
FAILURES = {
    "400": "The client left in the middle of the body",
    "408": "The body did not arrive in time",
    "413": "The body is too large",
    "415": "The body is of another type, or compressed by something unknown",
    "429": "The server works on as many requests as it may",
    "503": "No release is loaded, or the prediction log can keep no more",
    "504": "The prediction took too long",
}


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
        prediction_id: With one row it is that row's id; row ``i`` of several has the id
            ``<prediction_id>-<i>``, counted from 0.
        answered_at: Nanoseconds since 1970, UTC.
        latency_seconds: From the arrival of the request to its prediction.
        texts: The predictions as JSON lists: the values, and the probabilities of each class.
        counts: How often each class was predicted; of a regression the number of rows.
        outside: Which features of which rows lie outside what the model was trained on; None
            where none does.
    """

    question: Question
    prediction_id: str
    answered_at: int
    latency_seconds: float
    predictions: Predictions
    texts: list[bytes]
    counts: dict[int | None, int]
    outside: Outside = None


class HotRoute(NamedTuple):
    """A route that predicts: its path, and what reads a question out of a request."""

    path: str
    read: Callable[[Services, Request], Question]


def served_by(services: Services) -> Served:
    """The release in service, taken once a request; raises ProblemError 503 before the first."""
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
    matrix = served.codec.matrix([one.rows for one in questions])
    values, chances = served.predictor.predict(matrix)
    outside = served.ranges.outside(matrix)
    if not np.isfinite(values if chances is None else chances).all():
        raise refused("", "the model has no finite answer", "values it was trained on")
    seconds = services.settings.request_timeout_seconds
    now, answered_at, start = time.perf_counter(), time.time_ns(), 0
    answered = []
    for one in questions:
        latency, end = now - one.request.started, start + one.rows.count
        if latency > seconds:
            raise timed_out(seconds)
        part = Predictions(values[start:end], None if chances is None else chances[start:end])
        counts = _counts(served, part)
        one.request.facts.prediction_id = name = str(uuid7())
        beyond = None if outside is None else outside[start:end]
        texts = texts_of(part)
        answered.append(Answered(one, name, answered_at, latency, part, texts, counts, beyond))
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
    unfit = {"422": "A row does not fit the contract; names every field that is wrong"}
    for route, name, summary, description in (
        (PREDICT, "predict", "Predict one row or many", _FORMS),
        (PREVIEW, "preview", "Predict one row without keeping it", _FOR_A_FORM),
    ):
        add_hot_route(
            found,
            services,
            route,
            summary=summary,
            description=description,
            operation_id=name,
            responses=problems(FAILURES | unfit),
        )
    return found


def add_hot_route(
    router: fastapi.APIRouter,
    services: Services,
    route: HotRoute,
    *,
    largest_at_once: int = LARGEST_AT_ONCE,
    **described: object,
) -> None:
    """Make a route that predicts one of FastAPI's: larger bodies are answered in a thread."""

    async def endpoint(request: fastapi.Request) -> fastapi.Response:
        state = request.scope["state"]
        headers, body = dict(request.scope["headers"]), await request.body()
        asked = Request(request.url.path, headers, body, state["started"], state["facts"])

        def task() -> Answer:
            return answer(services, [route.read(services, asked)])[0]

        if len(body) <= largest_at_once:
            return response(task())
        return response(await work(services, task, asked.facts, request.receive))

    router.add_api_route(
        route.path,
        endpoint,
        methods=["POST"],
        response_class=fastapi.Response,
        **described,  # type: ignore[arg-type]
    )


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
    (served, rows, *_), name, _, _, predictions, texts, _, outside = answered
    return Answer(served.codec.answer(rows, predictions, texts, name, outside))


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


def _counts(served: Served, predictions: Predictions) -> dict[int | None, int]:
    """How often each class was predicted; refuses one that is none of the contract's.

    A model of more classes passes every check when its example shows none of the others.
    """
    labels = served.contract.target.labels
    if not labels:
        return {None: len(predictions.values)}
    if len(predictions.values) == 1:
        counts: dict[int | None, int] = {int(predictions.values[0]): 1}
    else:
        found, times = np.unique(predictions.values, return_counts=True)
        counts = dict(zip(found.tolist(), times.tolist(), strict=True))
    unknown = next((one for one in counts if one not in labels), None)
    if unknown is not None:
        raise ProblemError(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            f"Release {served.manifest.release} predicted {unknown}, which is none of the classes "
            f"of contract {served.contract.name}: deploy another release",
        )
    return counts


def operations(served: Served) -> dict[str, Schema]:
    """What the document says of the routes, for a release."""
    row = row_schema(served.contract, served.manifest.precision)
    words = "For feedback; row i of several rows of one request is named <id>-<i>, counted from 0"
    named: dict[str, Schema] = {"prediction_id": {"type": "string", "description": words}}
    preview, one = answer_schema(served, {}), answer_schema(served, named)
    lists = object_of({name: {"type": "array"} for name in row["properties"]}, row["required"])
    columns = object_of({COLUMNS_KEY: {"type": "object"}} | named | RELEASE_SCHEMAS)
    places: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
    told = f"{OUTSIDE_WORDS}, with the places of their rows, counted from 0"
    beyond = object_of(dict.fromkeys(served.contract.features, places), [])
    columns["properties"][OUTSIDE_KEY] = beyond | {"description": told}
    rows = [row, {"type": "array", "items": row, "minItems": 1}, object_of({COLUMNS_KEY: lists})]
    answers = [one, {"type": "array", "items": one}, columns]
    given = example_row(served.contract)
    return {
        PREVIEW.path: {
            "request": json_request(row, one_row=given),
            "answer": json_answer("The prediction", preview),
        },
        PREDICT.path: {
            "request": json_request(
                {"oneOf": rows},
                one_row=given,
                a_list_of_rows=[given, given],
                columns={COLUMNS_KEY: {name: [value] for name, value in given.items()}},
            ),
            "answer": json_answer("The predictions", {"oneOf": answers}),
        },
    }
