"""From rows to answers, the one way for every protocol; ``POST /predict`` and ``/explain``.

A protocol reads a ``Question`` out of a request. ``answer`` takes some of them at once, which costs
little more than one: it predicts, writes the answers and keeps them, all or none. Around the
numbers of a model an answer is always the same, so ``Answers`` fills templates.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import fastapi
import msgspec
import numpy as np
import orjson
from uuid_utils import uuid7

from mlops_for_mle.contract.encoding import Matrix
from mlops_for_mle.contract.rules import Column
from mlops_for_mle.releases.explain import Outside
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.codec import COLUMNS_KEY, OUTSIDE_KEY, Form, Rows
from mlops_for_mle.serving.context import (
    CONTENT_TYPE,
    LARGEST_AT_ONCE,
    media_type,
    response,
    timed_out,
)
from mlops_for_mle.serving.documents import encode, joined
from mlops_for_mle.serving.errors import (
    Answer,
    Later,
    Piece,
    ProblemError,
    not_ready,
    refused,
)
from mlops_for_mle.serving.openapi import component, json_answer, json_request, list_of
from mlops_for_mle.serving.request import Request, current_request

if TYPE_CHECKING:
    from mlops_for_mle.serving.releases import Served
    from mlops_for_mle.serving.services import Services

MOST_EXPLAINED = 100

# Where a number, a list of them or an id goes in a document; JSON itself has no such byte.
_NUL = b"\x00"
_SLOT = msgspec.Raw(_NUL)
SLOTS = msgspec.Raw(b"[%b]" % _NUL)
_NAME = msgspec.Raw(b'"%b"' % _NUL)

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


class Part(msgspec.Struct):
    """What the model says to some rows of a request: a class code or number each.

    ``texts`` are the same as JSON, with commas between, and the chances of each class likewise.
    """

    values: Column
    texts: Sequence[bytes]
    outside: Outside


class Question(msgspec.Struct):
    """Rows of a request to one release, and in the end what its model says to them.

    ``answered_at`` is in nanoseconds since 1970, UTC.
    """

    served: "Served"
    rows: Rows
    request: Request
    write: Callable[["Question"], Answer]
    is_kept: bool = True
    parts: Sequence[Part] = ()
    answered_at: int = 0
    latency_seconds: float = 0.0


class HotRoute(NamedTuple):
    """A route that predicts."""

    path: str
    read: Callable[["Services", Request], Question]


def served_by(services: "Services") -> "Served":
    """The release in service, taken once a request; raises ProblemError 503 before the first."""
    served = services.releases.current
    if served is None:
        raise not_ready(services.releases.obstacle())
    return served


def answer(services: "Services", questions: Sequence[Question]) -> list[Answer]:
    """Answer a question, or several of a row each, to one release; they leave afterwards.

    Where it raises ProblemError (422 or 500 for what the model says, 503 where the log can keep no
    more, 504 when it took too long), nothing was kept.
    """
    served, seconds = questions[0].served, services.settings.request_timeout_seconds
    rows = [one.rows for one in questions]
    matrices = rows[0].matrices or [served.codec.encode(rows)]
    # Each is let go when it is answered: its memory is the answer's.
    parts = [_predict(served, matrices.pop(0)) for _ in range(len(matrices))]
    if len(questions) == 1:
        questions[0].parts = parts
    else:
        _divide(parts[0], questions)
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
    if labels:
        if others := set(values.tolist()) - labels.keys():
            unknown = ", ".join(map(str, others))
            raise ProblemError(
                500,
                f"Release {served.manifest.release} predicted {unknown}, which is none of the "
                f"classes of contract {served.contract.name}: deploy another release",
            )
        values = values.astype(served.answers.codes.dtype)
    return Part(values, texts, served.ranges.outside(matrix))


def _divide(part: Part, questions: Sequence[Question]) -> None:
    numbers = zip(*(one.split(b",") for one in part.texts), strict=True)
    for place, (one, texts) in enumerate(zip(questions, numbers, strict=True)):
        row = slice(place, place + 1)
        outside = None if part.outside is None else part.outside[row]
        one.parts = [Part(part.values[row], texts, outside)]


def _numbers(array: Column | Matrix) -> bytes:
    """An array as JSON without its outermost brackets, with the digits that its type knows."""
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def texts_of(values: Column, chances: Matrix | None) -> list[bytes]:
    """Answers as JSON numbers with commas between: the values, and the chances of each class."""
    texts = [_numbers(values)]
    if chances is not None:
        texts += _numbers(np.ascontiguousarray(chances.T))[1:-1].split(b"],[")
    return texts


def filled(document: Any, lists: Iterable[Iterable[Piece]]) -> list[Piece]:
    """The JSON of a document, in pieces, with what stands in its lists in pieces, too."""
    head, *others = encode(document).split(_NUL)
    found: list[Piece] = [head]
    for pieces, other in zip(lists, others, strict=True):
        found += [*joined(pieces), other]
    return found


class Answers:
    """The answers of one release to ``POST /predict``, in the form in which rows were given."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest, self._target = manifest, manifest.contract.target
        self._features = tuple(manifest.contract.features)
        self._release = {"model_version": manifest.version, "release": manifest.release}
        labels, values = self._target.labels, self._target.values
        # Small where they can be, as each row of a request has one.
        is_small = all(abs(code) < 2**15 for code in labels)
        self.codes = np.array(self._target.class_codes, np.int16 if is_small else np.int64)
        # What is said of a class stands in its template, so a row's first number is not needed.
        self._first = 1 if labels else 0
        self._of_any = self._template({})
        self._by_class = {
            code: self._template({self._target.response_name: values[code], "label": label})
            for code, label in labels.items()
        }

    def write(self, question: Question) -> Answer:
        """Answer a request; a row of several has its place behind the prediction's id."""
        rows, parts = question.rows, question.parts
        if rows.form is Form.COLUMNS:
            return Answer(self._columns(question))
        name = question.request.prediction_id.encode()
        if rows.form is Form.ONE:
            (part,) = parts
            template = self._by_class.get(part.values.item(0), self._of_any)
            found = template % (*part.texts[self._first :], name)
            if part.outside is not None:
                found = self._add_features(found, part.outside[0].tolist())
            return Answer([found])
        numbered = (b"%b-%d" % (name, at) for at in range(rows.count))
        names = iter([name]) if rows.count == 1 else numbered
        lists = [b",".join(self._rows(one, names)) for one in parts]
        return Answer([b"[", *joined(lists), b"]"])

    def values(self, parts: Sequence[Part]) -> list[Piece]:
        """The JSON of the numbers or classes of rows, in pieces."""
        if self._target.has_text_classes:
            return self.named(parts, self._target.values)
        return [one.texts[0] for one in parts]

    def named(self, parts: Sequence[Part], names: Mapping[int, int | str]) -> list[Piece]:
        """The JSON of what the classes of rows are called, in pieces."""
        texts = np.array([encode(one) for one in names.values()], object)
        sizes = [len(one) for one in texts]

        def written(places: Column) -> bytes:
            return b",".join(texts[places].tolist())

        found: list[Piece] = []
        for part in parts:
            # Small, since they are kept until the answer is sent.
            places = self.codes.searchsorted(part.values).astype(np.min_scalar_type(len(sizes)))
            counts = np.bincount(places, minlength=len(sizes))
            # With a comma behind each but the last.
            size = int(counts @ sizes) + len(places) - 1
            found.append(Later(size, partial(written, places)))
        return found

    def _rows(self, part: Part, names: Iterator[bytes]) -> list[bytes]:
        numbers = (one.split(b",") for one in part.texts[self._first :])
        slots = zip(part.values.tolist(), *numbers, names, strict=False)
        found = [self._by_class.get(one[0], self._of_any) % one[1:] for one in slots]
        if part.outside is None:
            return found
        return list(map(self._add_features, found, part.outside.tolist()))

    def _columns(self, question: Question) -> list[Piece]:
        parts = question.parts
        _, *chances = zip(*(one.texts for one in parts), strict=True)
        labels = [self.named(parts, self._target.labels)] if self._target.labels else []
        answer: dict[str, Any] = {COLUMNS_KEY: self._answer(SLOTS)}
        answer |= {"prediction_id": question.request.prediction_id} | self._release
        places = self._places(parts)
        if places:
            answer[OUTSIDE_KEY] = dict.fromkeys(places, SLOTS)
        return filled(answer, (self.values(parts), *labels, *chances, *places.values()))

    def _places(self, parts: Sequence[Part]) -> dict[str, list[bytes]]:
        """By feature which rows lie outside of what the model was trained on, in pieces."""
        found: dict[str, list[bytes]] = {name: [] for name in self._features}
        start = 0
        for part in parts:
            if part.outside is not None:
                for texts, column in zip(found.values(), part.outside.T, strict=True):
                    if column.any():
                        texts.append(_numbers(np.flatnonzero(column) + start))
            start += len(part.values)
        return {name: texts for name, texts in found.items() if texts}

    def _add_features(self, answer: bytes, outside: list[bool]) -> bytes:
        if not any(outside):
            return answer
        found = encode(list(compress(self._features, outside)))
        return b'%b,"%b":%b}' % (answer[:-1], OUTSIDE_KEY.encode(), found)

    def _answer(self, slot: msgspec.Raw) -> dict[str, Any]:
        answer: dict[str, Any] = {self._target.response_name: slot}
        if self._target.labels:
            answer["label"] = slot
        if self._manifest.has_probabilities:
            answer["probabilities"] = dict.fromkeys(self._target.labels.values(), slot)
        return answer

    def _template(self, known: dict[str, Any]) -> bytes:
        answer = self._answer(_SLOT) | known | {"prediction_id": _NAME} | self._release
        return encode(answer).replace(b"%", b"%%").replace(_NUL, b"%b")


def router(services: "Services") -> fastapi.APIRouter:
    """The routes."""
    found = fastapi.APIRouter(tags=["prediction"])
    row, one = component("Row"), component("Answer")
    told = json_answer("The predictions", one, list_of(one), component("AnswerColumns"))
    add_hot_route(
        found,
        services,
        PREDICT,
        "Predict one row or many",
        description=_PREDICT_WORDS,
        openapi_extra=json_request(row, list_of(row), component("RowColumns")),
        responses={200: told},
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
    services: "Services",
    route: HotRoute,
    summary: str,
    *,
    largest_at_once: int = LARGEST_AT_ONCE,
    **described: Any,
) -> None:
    """Add a route that predicts; large bodies are answered in a thread, until the client leaves."""

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


def _read(services: "Services", request: Request) -> Question:
    media_type(request.headers.get(CONTENT_TYPE), "application/json")
    served = served_by(services)
    return Question(served, served.codec.read(request.body), request, served.answers.write)


PREDICT = HotRoute("/predict", _read)


def _read_to_explain(services: "Services", request: Request) -> Question:
    question = _read(services, request)
    if question.rows.form is Form.COLUMNS or question.rows.count > MOST_EXPLAINED:
        raise refused("", "holds too many rows", f"a row, or a list of up to {MOST_EXPLAINED}")
    matrix = question.served.codec.matrix(question.rows)
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
