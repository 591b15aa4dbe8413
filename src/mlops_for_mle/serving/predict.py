"""From rows to answers, the one way for every protocol; and the routes that are nearest to it.

A protocol reads a ``Question`` out of a request. ``answer`` takes some of them at once, which costs
little more than one: it predicts, writes the answers and keeps them, all or none.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import fastapi
import msgspec
import numpy as np
import orjson
from uuid_utils import uuid7

from mlops_for_mle.contract.encoding import Matrix
from mlops_for_mle.contract.rules import Precision
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.releases.predictor import Predictions
from mlops_for_mle.releases.ranges import Outside
from mlops_for_mle.serving.codec import COLUMNS_KEY, OUTSIDE_KEY, Form, Rows
from mlops_for_mle.serving.context import (
    LARGEST_AT_ONCE,
    Request,
    Services,
    media_type,
    response,
    timed_out,
)
from mlops_for_mle.serving.documents import encode
from mlops_for_mle.serving.errors import Answer, ProblemError, not_ready, refused
from mlops_for_mle.serving.openapi import component, json_answer, json_request, list_of

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
_PREVIEW_WORDS = (
    "For a form that predicts while somebody types: neither logged nor counted as a prediction, "
    "and without a prediction_id."
)
_EXPLAIN_WORDS = (
    f"Shapley values: how much each feature moves the answer from the mean over some rows of the "
    f"training snapshot, `base`, to that of this row, `value`; the contributions add up to the "
    f"difference. Explained is a regression's `value`; of a class its `probability`, or whether it "
    f"is the `answer` (1 or 0), where the model has no probabilities. A row, or a list of up to "
    f"{MOST_EXPLAINED}; neither logged nor counted as predictions."
)
# Where a number, a list of them or an id goes in a template; JSON itself has no such byte.
_SLOT, _SLOTS, _NAME = (msgspec.Raw(one) for one in (b"\x00", b"[\x00]", b'"\x00"'))


class Question(msgspec.Struct):
    """Rows that wait for the answers of one release; ``write`` makes the answer of a request."""

    served: "Served"
    rows: Rows
    request: Request
    write: Callable[["Answered"], Answer]
    is_kept: bool = True


class Part(msgspec.Struct):
    """What the model says to some rows of a request.

    Attributes:
        values: The class code or the number of each row.
        texts: The same as JSON, with commas between, and the chances of each class likewise.
        chances: Rows by classes, or None.
        outside: Which features of which rows lie outside what the model was trained on; None
            where none does.
    """

    values: list[Any]
    texts: Sequence[bytes]
    chances: Matrix | None
    outside: Outside


class Answered(msgspec.Struct):
    """A question with its predictions.

    Attributes:
        prediction_id: With one row it is that row's id; row ``i`` of several has the id
            ``<prediction_id>-<i>``, counted from 0.
        answered_at: Nanoseconds since 1970, UTC.
        latency_seconds: From the arrival of the request to its prediction.
    """

    question: Question
    prediction_id: str
    answered_at: int
    latency_seconds: float
    parts: Sequence[Part]

    def values(self) -> list[Any]:
        """The class code or the number of each row."""
        return [value for part in self.parts for value in part.values]

    def texts(self) -> list[list[bytes]]:
        """The JSON of the values, and of the chances of each class, in pieces."""
        return [joined(pieces) for pieces in zip(*(one.texts for one in self.parts), strict=True)]


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
    """Answer questions to one release; they leave afterwards.

    Raises:
        ProblemError: 422, the model has no finite answer for some of the rows; 500, it answers
            with a class that the contract does not have; 503, the log can keep no more; 504, it
            took too long. Then nothing was kept.
    """
    served, seconds = questions[0].served, services.settings.request_timeout_seconds
    matrix = served.codec.matrix([one.rows for one in questions])
    if len(questions) == 1:
        starts = range(0, len(matrix), _ROWS_A_PART)
        parts = [[_predict(served, matrix[at : at + _ROWS_A_PART]) for at in starts]]
    else:
        parts = _divided(_predict(served, matrix), questions)
    now, answered_at, answered = time.perf_counter(), time.time_ns(), []
    for one, found in zip(questions, parts, strict=True):
        latency = now - one.request.started
        if latency > seconds:
            raise timed_out(seconds)
        one.request.facts.prediction_id = name = str(uuid7())
        answered.append(Answered(one, name, answered_at, latency, found))
    answers = [one.question.write(one) for one in answered]
    kept = [one for one in answered if one.question.is_kept]
    if kept:
        services.log.keep(kept)
        services.metrics.predicted(kept)
    return answers


def _predict(served: "Served", matrix: Matrix) -> Part:
    predictions = served.predictor.predict(matrix)
    texts = texts_of(predictions, served.codec.precision)
    # What orjson makes of all that is not finite.
    if any(b"null" in one for one in texts):
        raise refused("", "the model has no finite answer", "values it was trained on")
    values, labels = predictions.values.tolist(), served.contract.target.labels
    # A model of more classes passes every check when its example shows none of the others.
    if labels and not labels.keys() >= set(values):
        unknown = ", ".join(map(str, set(values) - labels.keys()))
        raise ProblemError(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            f"Release {served.manifest.release} predicted {unknown}, which is none of the classes "
            f"of contract {served.contract.name}: deploy another release",
        )
    chances = predictions.probabilities
    if chances is not None:
        chances = chances.astype(served.codec.precision)
    return Part(values, texts, chances, served.ranges.outside(matrix))


def _divided(part: Part, questions: Sequence[Question]) -> list[list[Part]]:
    """The answers to each of the questions that were asked together."""
    chances, outside = part.chances, part.outside
    numbers = list(zip(*(one.split(b",") for one in part.texts), strict=True))
    found, start = [], 0
    for one in questions:
        end = start + one.rows.count
        texts = numbers[start]
        if one.rows.count > 1:
            texts = tuple(map(b",".join, zip(*numbers[start:end], strict=True)))
        chance = None if chances is None else chances[start:end]
        beyond = None if outside is None else outside[start:end]
        found.append([Part(part.values[start:end], texts, chance, beyond)])
        start = end
    return found


def texts_of(predictions: Predictions, precision: Precision) -> list[bytes]:
    """Answers as JSON numbers with commas between: the values, and the chances of each class.

    They have the digits that the model computes; orjson writes arrays, and float32 as such.
    """
    values, chances = predictions
    if values.dtype.kind == "f":
        values = values.astype(precision)
    texts = [orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]]
    if chances is not None:
        by_class = np.ascontiguousarray(chances.T, precision)
        lists = orjson.dumps(by_class, option=orjson.OPT_SERIALIZE_NUMPY)
        texts += lists[2:-2].split(b"],[")
    return texts


def joined(texts: Iterable[bytes]) -> list[bytes]:
    """Texts with commas between."""
    return [piece for one in texts for piece in (b",", one)][1:]


class Answers:
    """The answers of one release to ``POST /predict``, in the form in which rows were given.

    Around the numbers of a model an answer is always the same, so it is a template.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Prepare the templates."""
        self._manifest, self._target = manifest, manifest.contract.target
        self._features = manifest.contract.feature_names
        labels, values = self._target.labels, self._target.values
        self._labels = {code: encode(label) for code, label in labels.items()}
        self._values = {code: encode(value) for code, value in values.items()}
        self._by_columns = self._written({COLUMNS_KEY: self._answer(_SLOTS)}).split(b"\x00")
        # What is said of a class stands in its template, so a row's first number is not needed.
        self._first = 1 if labels else 0
        self._of_any = self._template(self._answer(_SLOT))
        self._by_class: dict[Any, bytes] = {}
        for code, label in labels.items():
            known = {self._target.response_name: values[code], "label": label}
            self._by_class[code] = self._template(self._answer(_SLOT) | known)

    def write(self, answered: Answered) -> Answer:
        """Answer a request; a row of several has its place behind the prediction's id."""
        rows, name, parts = answered.question.rows, answered.prediction_id.encode(), answered.parts
        if rows.form is Form.COLUMNS:
            return Answer(self._columns(answered, name))
        if rows.form is Form.ONE:
            (part,) = parts
            template = self._by_class.get(part.values[0], self._of_any)
            found = template % (*part.texts[self._first :], name)
            if part.outside is not None:
                found = self._add_features(found, part.outside[0].tolist())
            return Answer([found])
        numbered = (b"%b-%d" % (name, at) for at in range(rows.count))
        names = iter([name]) if rows.count == 1 else numbered
        lists = [b",".join(self._rows(one, names)) for one in parts]
        return Answer([b"[", *joined(lists), b"]"])

    def _rows(self, part: Part, names: Iterator[bytes]) -> list[bytes]:
        """The answers to rows, one by one."""
        numbers, template = (
            (one.split(b",") for one in part.texts[self._first :]),
            self._by_class.get,
        )
        slots = zip(part.values, *numbers, names, strict=False)
        found = [template(one[0], self._of_any) % one[1:] for one in slots]
        if part.outside is None:
            return found
        return list(map(self._add_features, found, part.outside.tolist()))

    def _columns(self, answered: Answered, name: bytes) -> list[bytes]:
        """The answer to rows by columns, in pieces."""
        values, *chances = answered.texts()
        if self._target.has_text_classes:
            values = _named(answered, self._values)
        labels = [_named(answered, self._labels)] if self._labels else []
        slots = (values, *labels, *chances, [name])
        answer = [self._by_columns[0]]
        for slot, text in zip(slots, self._by_columns[1:], strict=True):
            answer += (*slot, text)
        if any(one.outside is not None for one in answered.parts):
            answer[-1] = _add(answer[-1], self._places(answered.parts))
        return answer

    def _places(self, parts: Sequence[Part]) -> dict[str, msgspec.Raw]:
        """By feature which rows lie outside of what the model was trained on, as JSON."""
        none = np.zeros((_ROWS_A_PART, len(self._features)), np.bool_)
        outside = [none[: len(one.values)] if one.outside is None else one.outside for one in parts]
        columns = zip(self._features, np.concatenate(outside).T, strict=True)
        places = {feature: np.flatnonzero(column) for feature, column in columns}
        return {
            feature: msgspec.Raw(orjson.dumps(one, option=orjson.OPT_SERIALIZE_NUMPY))
            for feature, one in places.items()
            if len(one)
        }

    def _add_features(self, answer: bytes, outside: list[bool]) -> bytes:
        found = list(compress(self._features, outside))
        return _add(answer, found) if found else answer

    def _answer(self, slot: msgspec.Raw) -> dict[str, Any]:
        """What is answered to rows, with slots for what the model says."""
        answer: dict[str, Any] = {self._target.response_name: slot}
        if self._target.labels:
            answer["label"] = slot
        if self._manifest.has_probabilities:
            answer["probabilities"] = dict.fromkeys(self._target.labels.values(), slot)
        return answer

    def _written(self, answer: dict[str, Any]) -> bytes:
        release = {"model_version": self._manifest.version, "release": self._manifest.release}
        return encode(answer | {"prediction_id": _NAME} | release)

    def _template(self, answer: dict[str, Any]) -> bytes:
        return self._written(answer).replace(b"%", b"%%").replace(b"\x00", b"%b")


def _named(answered: Answered, names: Mapping[Any, bytes]) -> list[bytes]:
    """What the classes of rows are called, in pieces."""
    return joined(b",".join(map(names.__getitem__, one.values)) for one in answered.parts)


def _add(answer: bytes, outside: list[str] | dict[str, msgspec.Raw]) -> bytes:
    """Tell at the end of an answer what lies outside of what the model was trained on."""
    return b'%b,"%b":%b}' % (answer[:-1], OUTSIDE_KEY.encode(), encode(outside))


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
        PREVIEW,
        "Predict one row without keeping it",
        description=_PREVIEW_WORDS,
        openapi_extra=json_request(row, list_of(row, maxItems=1)),
        responses={200: json_answer("The prediction", one, list_of(one))},
    )
    add_hot_route(
        found,
        services,
        EXPLAIN,
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
        state = request.scope["state"]
        headers, body = dict(request.scope["headers"]), state["body"]
        asked = Request(request.url.path, headers, body, state["started"], state["facts"])

        def task() -> Answer:
            return answer(services, [route.read(services, asked)])[0]

        if len(body) <= largest_at_once:
            return response(task())
        run = contextvars.copy_context().run
        doing = asyncio.get_running_loop().run_in_executor(services.threads, run, task)
        leaving = asyncio.ensure_future(request.receive())
        try:
            either: set[asyncio.Future[Any]] = {doing, leaving}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise ProblemError(HTTPStatus.BAD_REQUEST, "The client has left")
            return response(doing.result())
        finally:
            # The thread looks at this now and then.
            asked.facts.is_wanted = False
            leaving.cancel()

    described |= {"summary": summary, "response_class": fastapi.Response}
    router.add_api_route(route.path, endpoint, methods=["POST"], **described)


def _read(services: Services, request: Request) -> Question:
    media_type(request.headers, "application/json")
    served = served_by(services)
    return Question(served, served.codec.read(request.body), request, served.answers.write)


def _read_unkept(services: Services, request: Request, *, most: int, explains: bool) -> Question:
    question = _read(services, request)
    if question.rows.form is Form.COLUMNS or question.rows.count > most:
        raise refused("", "holds too many rows", f"a row, or a list of up to {most}")
    question.write, question.is_kept = partial(_write_unkept, explains=explains), False
    return question


def _write_unkept(answered: Answered, *, explains: bool) -> Answer:
    question = answered.question
    served, rows, request = question.served, question.rows, question.request
    found = msgspec.json.decode(served.answers.write(answered).body)
    listed = [found] if rows.form is Form.ONE else found
    for one in listed:
        del one["prediction_id"]
    if explains:
        for one, row in zip(listed, served.codec.matrix([rows]), strict=True):
            if not request.facts.is_wanted:
                raise ProblemError(HTTPStatus.BAD_REQUEST, "The client has left")
            one["explanation"] = served.explainer.explain(row)._asdict()
    return Answer([encode(found)])


PREDICT = HotRoute("/predict", _read)
PREVIEW = HotRoute("/predict/preview", partial(_read_unkept, most=1, explains=False))
EXPLAIN = HotRoute("/explain", partial(_read_unkept, most=MOST_EXPLAINED, explains=True))
