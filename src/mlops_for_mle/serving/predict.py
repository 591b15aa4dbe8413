"""From rows to answers, the one way for every protocol; ``POST /predict`` and ``/explain``.

A protocol reads an ``Inference`` out of a request. ``answer`` takes several at once, which costs
little more than one: it predicts, writes the answers and logs them, all or none. But for the
numbers of the model all answers of a release are alike, so ``Answers`` fills templates.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

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
from mlops_for_mle.serving.context import CONTENT_TYPE, MAX_INLINE_BODY_BYTES, media_type, response
from mlops_for_mle.serving.documents import encode, joined
from mlops_for_mle.serving.errors import Answer, not_ready, refused
from mlops_for_mle.serving.openapi import component, json_answer, json_request, list_of
from mlops_for_mle.serving.request import Request, current_request

if TYPE_CHECKING:
    from mlops_for_mle.serving.releases import ServedRelease
    from mlops_for_mle.serving.services import Services

PATH = "/predict"
MAX_EXPLAINED = 100

# Marks where a number, a list or an id goes in a document; JSON itself has no such byte.
_NUL = b"\x00"
_SLOT = msgspec.Raw(_NUL)
SLOTS = msgspec.Raw(b"[%b]" % _NUL)
_ID_SLOT = msgspec.Raw(b'"%b"' % _NUL)

_PREDICT_WORDS = (
    "A row is answered by an object, a list by a list in the same order, and columns by columns, "
    "which is the quickest form for many rows: up to 100,000."
)
_EXPLAIN_WORDS = (
    "Shapley values: how much each feature moves the answer from `base`, the mean over rows of the "
    f"training snapshot, to `value`, that of this row. A row, or a list of up to {MAX_EXPLAINED}; "
    "nothing of it is logged or counted, and there is no prediction_id."
)


class Part(msgspec.Struct):
    """What the model predicts for some rows of a request: a class code or number each.

    ``texts`` holds them as JSON with commas between, then the probabilities of each class likewise.
    """

    values: Column
    texts: Sequence[bytes]
    outside: Outside


class Inference(msgspec.Struct):
    """Rows of a request to one release, and in the end what its model predicts for them.

    ``answered_at`` is in nanoseconds since 1970, UTC.
    """

    served: "ServedRelease"
    rows: Rows
    request: Request
    write: Callable[["Inference"], Answer]
    is_logged: bool = True
    parts: Sequence[Part] = ()
    answered_at: int = 0
    latency_seconds: float = 0.0


Reader = Callable[["Services", Request], Inference]
"""What reads an inference out of a request of one protocol."""


def served_by(services: "Services") -> "ServedRelease":
    """The release in service, taken once a request; raises ProblemError 503 before the first."""
    served = services.releases.current
    if served is None:
        raise not_ready(services.releases.obstacle())
    return served


def answer(services: "Services", inferences: Sequence[Inference]) -> list[Answer]:
    """Answer inferences to one release: a single one, or several of one row each.

    Where it raises ProblemError (422 for what the model says, 503 where the log can keep no more,
    400 where nobody waits any longer), nothing was logged.
    """
    served = inferences[0].served
    rows = [inference.rows for inference in inferences]
    matrices = rows[0].matrices or [served.codec.encode(rows)]
    # Each matrix is freed after its prediction, since the answer needs the memory.
    parts = [_predict(served, matrices.pop(0)) for _ in range(len(matrices))]
    if len(inferences) == 1:
        inferences[0].parts = parts
    else:
        _divide(parts[0], inferences)
    now, answered_at = time.perf_counter(), time.time_ns()
    for inference in inferences:
        request = inference.request
        request.raise_if_cancelled()
        inference.answered_at, inference.latency_seconds = answered_at, now - request.started
        request.prediction_id = str(uuid7())
    answers = [inference.write(inference) for inference in inferences]
    logged = [inference for inference in inferences if inference.is_logged]
    if logged:
        services.log.keep(logged)
        services.metrics.predicted(logged)
    return answers


def _predict(served: "ServedRelease", matrix: Matrix) -> Part:
    values, probabilities = served.predictor.predict(matrix)
    precision, labels = served.codec.precision, served.contract.target.labels
    texts = [_numbers(values if labels else values.astype(precision))]
    if probabilities is not None:
        by_class = np.ascontiguousarray(probabilities.T, precision)
        texts += _numbers(by_class)[1:-1].split(b"],[")
    # orjson writes null for what is not finite; a number has no n.
    if any(b"n" in text for text in texts):
        raise refused("", "the model has no finite answer", "values it was trained on")
    # A model with more classes passes every check when its example shows none of the others.
    if labels:
        if unknown := set(values.tolist()) - labels.keys():
            release = served.manifest.release
            raise ValueError(f"Release {release} predicted {unknown}, no classes of its contract")
        values = values.astype(served.answers.codes.dtype)
    return Part(values, texts, served.ranges.outside(matrix))


def _divide(part: Part, inferences: Sequence[Inference]) -> None:
    """Give each inference its row of a part."""
    texts_by_row = zip(*(text.split(b",") for text in part.texts), strict=True)
    for index, (inference, texts) in enumerate(zip(inferences, texts_by_row, strict=True)):
        row = slice(index, index + 1)
        outside = None if part.outside is None else part.outside[row]
        inference.parts = [Part(part.values[row], texts, outside)]


def _numbers(array: Column | Matrix) -> bytes:
    """An array as JSON without its outermost brackets, with the digits that its type knows."""
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


def fill_slots(document: Any, lists: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """The JSON of a document, in pieces; each list, in pieces too, takes one of its ``SLOTS``."""
    head, *tails = encode(document).split(_NUL)
    yield head
    for pieces, tail in zip(lists, tails, strict=True):
        yield from joined(pieces)
        yield tail


class Answers:
    """The answers of one release to ``POST /predict``, in the form in which rows were given."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest, self._target = manifest, manifest.contract.target
        self._features = tuple(manifest.contract.features)
        self._release = {"model_version": manifest.version, "release": manifest.release}
        labels, values = self._target.labels, self._target.values
        # Of a small type where they fit, as each row of a request has one.
        is_small = all(abs(code) < 2**15 for code in labels)
        self.codes = np.array(self._target.class_codes, np.int16 if is_small else np.int64)
        # The template of a class names it, so its code, the first text of a row, is not used.
        self._first_text = 1 if labels else 0
        self._value_template = self._template({})
        self._templates = {
            code: self._template({self._target.response_name: values[code], "label": label})
            for code, label in labels.items()
        }

    def write(self, inference: Inference) -> Answer:
        """Answer a request; of several rows each has its number behind the prediction's id."""
        rows, parts = inference.rows, inference.parts
        if rows.form is Form.COLUMNS:
            return Answer(self._columns(inference))
        prediction_id = inference.request.prediction_id.encode()
        if rows.form is Form.ONE:
            (part,) = parts
            template = self._templates.get(part.values.item(0), self._value_template)
            text = template % (*part.texts[self._first_text :], prediction_id)
            if part.outside is not None:
                text = self._add_outside(text, part.outside[0].tolist())
            return Answer([text])
        numbered = (b"%b-%d" % (prediction_id, number) for number in range(rows.count))
        ids = iter([prediction_id]) if rows.count == 1 else numbered
        lists = (b",".join(self._rows(part, ids)) for part in parts)
        return Answer(fill_slots(SLOTS, [lists]))

    def values(self, parts: Sequence[Part]) -> Iterable[bytes]:
        """The JSON of the numbers or classes of rows, in pieces."""
        if self._target.feature.is_text:
            return self.named(parts, self._target.values)
        return [part.texts[0] for part in parts]

    def named(self, parts: Sequence[Part], names: Mapping[int, int | str]) -> Iterator[bytes]:
        """The JSON of the names of the rows' classes, in pieces."""
        texts = np.array([encode(name) for name in names.values()], object)
        for part in parts:
            yield b",".join(texts[self.codes.searchsorted(part.values)].tolist())

    def _rows(self, part: Part, ids: Iterator[bytes]) -> list[bytes]:
        """The answers to the rows of a part, as JSON."""
        columns = (text.split(b",") for text in part.texts[self._first_text :])
        rows = zip(part.values.tolist(), *columns, ids, strict=False)
        answers = [self._templates.get(row[0], self._value_template) % row[1:] for row in rows]
        if part.outside is None:
            return answers
        return list(map(self._add_outside, answers, part.outside.tolist()))

    def _columns(self, inference: Inference) -> Iterator[bytes]:
        parts = inference.parts
        _, *probabilities = zip(*(part.texts for part in parts), strict=True)
        labels = [self.named(parts, self._target.labels)] if self._target.labels else []
        answer: dict[str, Any] = {COLUMNS_KEY: self._answer(SLOTS)}
        answer |= {"prediction_id": inference.request.prediction_id} | self._release
        if outside := self._rows_outside(parts):
            answer[OUTSIDE_KEY] = dict.fromkeys(outside, SLOTS)
        return fill_slots(answer, (self.values(parts), *labels, *probabilities, *outside.values()))

    def _rows_outside(self, parts: Sequence[Part]) -> dict[str, list[bytes]]:
        """By feature the numbers of the rows outside what the model was trained on, in pieces."""
        rows: dict[str, list[bytes]] = {name: [] for name in self._features}
        start = 0
        for part in parts:
            if part.outside is not None:
                for texts, is_outside in zip(rows.values(), part.outside.T, strict=True):
                    if is_outside.any():
                        texts.append(_numbers(np.flatnonzero(is_outside) + start))
            start += len(part.values)
        return {name: texts for name, texts in rows.items() if texts}

    def _add_outside(self, answer: bytes, is_outside: list[bool]) -> bytes:
        if not any(is_outside):
            return answer
        names = encode(list(compress(self._features, is_outside)))
        return b'%b,"%b":%b}' % (answer[:-1], OUTSIDE_KEY.encode(), names)

    def _answer(self, slot: msgspec.Raw) -> dict[str, Any]:
        answer: dict[str, Any] = {self._target.response_name: slot}
        if self._target.labels:
            answer["label"] = slot
        if self._manifest.has_probabilities:
            answer["probabilities"] = dict.fromkeys(self._target.labels.values(), slot)
        return answer

    def _template(self, class_facts: dict[str, Any]) -> bytes:
        answer = self._answer(_SLOT) | class_facts | {"prediction_id": _ID_SLOT} | self._release
        return encode(answer).replace(b"%", b"%%").replace(_NUL, b"%b")


def router(services: "Services") -> fastapi.APIRouter:
    """The routes."""
    routes = fastapi.APIRouter(tags=["prediction"])
    row, reply = component("Row"), component("Answer")
    forms = (reply, list_of(reply), component("AnswerColumns"))
    add_prediction_route(
        routes,
        services,
        PATH,
        read_predict,
        summary="Predict one row or many",
        description=_PREDICT_WORDS,
        openapi_extra=json_request(row, list_of(row), component("RowColumns")),
        responses={200: json_answer("The predictions", *forms)},
    )
    add_prediction_route(
        routes,
        services,
        "/explain",
        _read_to_explain,
        summary="Predict rows and say why",
        max_inline_body_bytes=-1,
        description=_EXPLAIN_WORDS,
        openapi_extra=json_request(row, list_of(row, maxItems=MAX_EXPLAINED)),
        responses={200: json_answer("Predictions and why they were made", reply, list_of(reply))},
    )
    return routes


def add_prediction_route(
    router: fastapi.APIRouter,
    services: "Services",
    path: str,
    read: Reader,
    *,
    max_inline_body_bytes: int = MAX_INLINE_BODY_BYTES,
    **options: Any,
) -> None:
    """Add a route that predicts; large bodies are answered in a thread, until the client leaves."""

    async def endpoint(http_request: fastapi.Request) -> fastapi.Response:
        request = current_request.get()

        def task() -> fastapi.Response:
            request.raise_if_cancelled()
            (found,) = answer(services, [read(services, request)])
            return response(found, http_request.scope["http_version"])

        if len(request.body) <= max_inline_body_bytes:
            return task()
        run = contextvars.copy_context().run
        leaving = asyncio.ensure_future(http_request.receive())
        # The thread looks at this now and then, and stops; also when it has taken too long.
        leaving.add_done_callback(lambda _: setattr(request, "is_cancelled", True))
        try:
            return await asyncio.get_running_loop().run_in_executor(services.threads, run, task)
        finally:
            leaving.cancel()

    options |= {"methods": ["POST"], "response_class": fastapi.Response}
    router.add_api_route(path, endpoint, **options)


def read_predict(services: "Services", request: Request) -> Inference:
    """Read what is asked of ``POST /predict``."""
    media_type(request.headers.get(CONTENT_TYPE), "application/json")
    served = served_by(services)
    return Inference(served, served.codec.read(request.body), request, served.answers.write)


def _read_to_explain(services: "Services", request: Request) -> Inference:
    inference = read_predict(services, request)
    allowed = f"a row, or a list of up to {MAX_EXPLAINED}"
    if inference.rows.form is Form.COLUMNS:
        raise refused(COLUMNS_KEY, "cannot be explained", allowed)
    if inference.rows.count > MAX_EXPLAINED:
        raise refused("", "holds too many rows", allowed)
    matrix = inference.served.codec.matrix(inference.rows)
    inference.write, inference.is_logged = partial(_write_explained, matrix=matrix), False
    return inference


def _write_explained(inference: Inference, *, matrix: Matrix) -> Answer:
    served = inference.served
    document = msgspec.json.decode(served.answers.write(inference).body)
    answers = [document] if inference.rows.form is Form.ONE else document
    for explained, row in zip(answers, matrix, strict=True):
        inference.request.raise_if_cancelled()
        del explained["prediction_id"]
        explained["explanation"] = served.explainer.explain(row)._asdict()
    return Answer([encode(document)])
