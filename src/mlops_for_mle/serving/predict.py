"""From rows to answers, the one way for every protocol; and the routes that are nearest to it.

A protocol reads a ``Question`` out of a request. ``answer`` takes some of them at once, which costs
little more than one: it predicts, writes the answers and keeps them, all or none.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import fastapi
import msgspec
from uuid_utils import uuid7

from mlops_for_mle.contract.encoding import Matrix
from mlops_for_mle.serving.answers import Part, Question, texts_of
from mlops_for_mle.serving.codec import Form
from mlops_for_mle.serving.context import (
    LARGEST_AT_ONCE,
    media_type,
    response,
    timed_out,
)
from mlops_for_mle.serving.documents import encode
from mlops_for_mle.serving.errors import Answer, ProblemError, not_ready, refused
from mlops_for_mle.serving.openapi import component, json_answer, json_request, list_of
from mlops_for_mle.serving.request import Request, current_request
from mlops_for_mle.serving.services import Services

if TYPE_CHECKING:
    from mlops_for_mle.serving.releases import Served

MOST_EXPLAINED = 100

# So many are predicted at once, which bounds what the model needs in between.
_ROWS_A_PART = 2048

_PREDICT_WORDS = (
    "A row as an object is answered by an object, a list of them by a list in the same order, and "
    "rows by columns by columns, which is the quickest form for many rows, of which 100,000 may be "
    "in one request."
)
_EXPLAIN_WORDS = (
    f"Shapley values: how much each feature moves the answer from the mean over some rows of the "
    f"training snapshot, `base`, to that of this row, `value`; the contributions add up to the "
    f"difference. Explained is a regression's `value`; of a class its `probability`, or whether it "
    f"is the `answer` (1 or 0), where the model has no probabilities. A row, or a list of up to "
    f"{MOST_EXPLAINED}, as for a form that predicts while somebody types: neither logged nor "
    f"counted as predictions, and without a prediction_id."
)


class HotRoute(NamedTuple):
    """A route that predicts: its path, and what reads a question out of a request."""

    path: str
    read: Callable[[Services, Request], Question]


def served_by(services: Services) -> "Served":
    """The release in service, taken once a request; raises ProblemError 503 before the first."""
    served = services.releases.current
    if served is None:
        raise not_ready(services.releases.obstacle())
    return served


def answer(services: Services, questions: Sequence[Question]) -> list[Answer]:
    """Answer a question, or several of a row each, to one release; they leave afterwards.

    Raises:
        ProblemError: 422, the model has no finite answer for some of the rows; 500, it answers
            with a class that the contract does not have; 503, the log can keep no more; 504, it
            took too long. Then nothing was kept.
    """
    served, seconds = questions[0].served, services.settings.request_timeout_seconds
    matrix = served.codec.matrix([one.rows for one in questions])
    if len(questions) == 1:
        slices = (matrix[at : at + _ROWS_A_PART] for at in range(0, len(matrix), _ROWS_A_PART))
        questions[0].parts = [_predict(served, one) for one in slices]
        # Its memory is the answer's.
        del matrix
        questions[0].rows.matrix = None
    else:
        _divide(_predict(served, matrix), questions)
    now, answered_at = time.perf_counter(), time.time_ns()
    for one in questions:
        one.answered_at, one.latency_seconds = answered_at, now - one.request.started
        if one.latency_seconds > seconds:
            raise timed_out(seconds)
        one.request.prediction_id = str(uuid7())
    answers = [one.write(one) for one in questions]
    kept = [one for one in questions if one.is_kept]
    if kept:
        services.log.keep(kept)
        services.metrics.predicted(kept)
    return answers


def _predict(served: "Served", matrix: Matrix) -> Part:
    values, chances = served.predictor.predict(matrix)
    precision, labels = served.codec.precision, served.contract.target.labels
    if chances is not None:
        chances = chances.astype(precision)
    texts = texts_of(values if labels else values.astype(precision), chances)
    # The first letter of null, which orjson makes of all that is not finite.
    if any(b"n" in one for one in texts):
        raise refused("", "the model has no finite answer", "values it was trained on")
    # A model of more classes passes every check when its example shows none of the others.
    if labels and (others := set(values.tolist()) - labels.keys()):
        unknown = ", ".join(map(str, others))
        raise ProblemError(
            500,
            f"Release {served.manifest.release} predicted {unknown}, which is none of the classes "
            f"of contract {served.contract.name}: deploy another release",
        )
    return Part(values, texts, chances, served.ranges.outside(matrix))


def _divide(part: Part, questions: Sequence[Question]) -> None:
    """Give each question of a row its part of the answer."""
    numbers = zip(*(one.split(b",") for one in part.texts), strict=True)
    for place, (one, texts) in enumerate(zip(questions, numbers, strict=True)):
        row = slice(place, place + 1)
        chances = None if part.chances is None else part.chances[row]
        outside = None if part.outside is None else part.outside[row]
        one.parts = [Part(part.values[row], texts, chances, outside)]


def router(services: Services) -> fastapi.APIRouter:
    """The routes."""
    found = fastapi.APIRouter(tags=["prediction"])
    row, one = component("Row"), component("Answer")
    add_hot_route(
        found,
        services,
        PREDICT,
        "Predict one row or many",
        description=_PREDICT_WORDS,
        openapi_extra=json_request(row, list_of(row), component("RowColumns")),
        responses={
            200: json_answer("The predictions", one, list_of(one), component("AnswerColumns"))
        },
    )
    add_hot_route(
        found,
        services,
        HotRoute("/explain", _read_to_explain),
        "Predict rows and say why",
        largest_at_once=-1,
        description=_EXPLAIN_WORDS,
        openapi_extra=json_request(row, list_of(row, maxItems=MOST_EXPLAINED)),
        responses={200: json_answer("Predictions and why they were made", one, list_of(one))},
    )
    return found


def add_hot_route(
    router: fastapi.APIRouter,
    services: Services,
    route: HotRoute,
    summary: str,
    *,
    largest_at_once: int = LARGEST_AT_ONCE,
    **described: Any,
) -> None:
    """Make a route that predicts one of FastAPI's.

    Larger bodies are answered in a thread, while others are, until the client leaves.
    """

    async def endpoint(request: fastapi.Request) -> fastapi.Response:
        asked = current_request.get()

        def task() -> Answer:
            return answer(services, [route.read(services, asked)])[0]

        if len(asked.body) <= largest_at_once:
            return response(task())
        run = contextvars.copy_context().run
        doing = asyncio.get_running_loop().run_in_executor(services.threads, run, task)
        leaving = asyncio.ensure_future(request.receive())
        try:
            either: set[asyncio.Future[Any]] = {doing, leaving}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise ProblemError(400, "The client has left")
            return response(doing.result())
        finally:
            # The thread looks at this now and then.
            asked.is_wanted = False
            leaving.cancel()

    described |= {"summary": summary, "response_class": fastapi.Response}
    router.add_api_route(route.path, endpoint, methods=["POST"], **described)


def _read(services: Services, request: Request) -> Question:
    media_type(request.headers, "application/json")
    served = served_by(services)
    return Question(served, served.codec.read(request.body), request, served.answers.write)


def _read_to_explain(services: Services, request: Request) -> Question:
    question = _read(services, request)
    if question.rows.form is Form.COLUMNS or question.rows.count > MOST_EXPLAINED:
        raise refused("", "holds too many rows", f"a row, or a list of up to {MOST_EXPLAINED}")
    matrix = question.served.codec.matrix([question.rows])
    question.write, question.is_kept = partial(_write_explained, matrix=matrix), False
    return question


def _write_explained(question: Question, *, matrix: Matrix) -> Answer:
    served = question.served
    found = msgspec.json.decode(served.answers.write(question).body)
    listed = [found] if question.rows.form is Form.ONE else found
    for one, row in zip(listed, matrix, strict=True):
        question.request.go_on()
        del one["prediction_id"]
        one["explanation"] = served.explainer.explain(row)._asdict()
    return Answer([encode(found)])


PREDICT = HotRoute("/predict", _read)
