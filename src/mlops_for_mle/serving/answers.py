"""What the model says to rows, and how ``POST /predict`` writes it.

Around the numbers of a model an answer is always the same, so it is a template.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson

from mlops_for_mle.contract.encoding import Matrix
from mlops_for_mle.contract.rules import Column
from mlops_for_mle.releases.explain import Outside
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.codec import COLUMNS_KEY, OUTSIDE_KEY, Form, Rows
from mlops_for_mle.serving.documents import encode
from mlops_for_mle.serving.errors import Answer
from mlops_for_mle.serving.request import Request

if TYPE_CHECKING:
    from mlops_for_mle.serving.releases import Served

# Where a number, a list of them or an id goes in a document; JSON itself has no such byte.
_NUL = b"\x00"
_SLOT, SLOTS, _NAME = (msgspec.Raw(one % _NUL) for one in (b"%b", b"[%b]", b'"%b"'))


class Part(msgspec.Struct):
    """What the model says to some rows of a request.

    Attributes:
        values: The class code (int64) or the number (float64) of each row.
        texts: The same as JSON, with commas between, and the chances of each class likewise.
        chances: Rows by classes, or None where the model has none.
        outside: Which features of which rows lie outside what the model was trained on; None
            where none does.
    """

    values: Column
    texts: Sequence[bytes]
    chances: Matrix | None
    outside: Outside


class Question(msgspec.Struct):
    """Rows of a request to one release, and in the end what its model says to them.

    Attributes:
        write: Makes the answer to the request.
        is_kept: Whether it goes into the prediction log.
        answered_at: Nanoseconds since 1970, UTC.
        latency_seconds: From the arrival of the request to its prediction.
    """

    served: "Served"
    rows: Rows
    request: Request
    write: Callable[["Question"], Answer]
    is_kept: bool = True
    parts: Sequence[Part] = ()
    answered_at: int = 0
    latency_seconds: float = 0.0

    def texts(self) -> list[list[bytes]]:
        """The JSON of the values, and of the chances of each class, in pieces."""
        return [joined(pieces) for pieces in zip(*(one.texts for one in self.parts), strict=True)]


def texts_of(values: Column, chances: Matrix | None) -> list[bytes]:
    """Answers as JSON numbers with commas between: the values, and the chances of each class.

    They have the digits that the model computes; orjson writes arrays, and float32 as such.
    """
    texts = [orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]]
    if chances is not None:
        by_class = np.ascontiguousarray(chances.T)
        lists = orjson.dumps(by_class, option=orjson.OPT_SERIALIZE_NUMPY)
        texts += lists[2:-2].split(b"],[")
    return texts


def joined(texts: Iterable[bytes]) -> list[bytes]:
    """Texts with commas between."""
    return [piece for one in texts for piece in (b",", one)][1:]


def filled(document: Any, lists: Iterable[Iterable[bytes]]) -> list[bytes]:
    """The JSON of a document with what stands in its lists, in pieces."""
    head, *others = encode(document).split(_NUL)
    pairs = zip(lists, others, strict=True)
    return [head, *(piece for one, other in pairs for piece in (*one, other))]


class Answers:
    """The answers of one release to ``POST /predict``, in the form in which rows were given."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest, self._target = manifest, manifest.contract.target
        self._features = manifest.contract.feature_names
        self._release = {"model_version": manifest.version, "release": manifest.release}
        labels, values = self._target.labels, self._target.values
        self.codes = np.array(self._target.class_codes, np.int64)
        self._labels, self._values = _texts(labels), _texts(values)
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

    def values(self, question: Question) -> list[bytes]:
        """The JSON of the numbers or classes of rows, in pieces."""
        is_text = self._target.has_text_classes
        return self._named(question, self._values) if is_text else question.texts()[0]

    def _rows(self, part: Part, names: Iterator[bytes]) -> list[bytes]:
        """The answers to rows, one by one."""
        numbers = (one.split(b",") for one in part.texts[self._first :])
        slots = zip(part.values.tolist(), *numbers, names, strict=False)
        found = [self._by_class.get(one[0], self._of_any) % one[1:] for one in slots]
        if part.outside is None:
            return found
        return list(map(self._add_features, found, part.outside.tolist()))

    def _columns(self, question: Question) -> list[bytes]:
        """The answer to rows by columns, in pieces."""
        _, *chances = question.texts()
        labels = [self._named(question, self._labels)] if len(self.codes) else []
        answer: dict[str, Any] = {COLUMNS_KEY: self._answer(SLOTS)}
        answer |= {"prediction_id": question.request.prediction_id} | self._release
        places = self._places(question.parts)
        if places:
            answer[OUTSIDE_KEY] = dict.fromkeys(places, SLOTS)
        return filled(answer, (self.values(question), *labels, *chances, *places.values()))

    def _named(self, question: Question, names: Column) -> list[bytes]:
        """What the classes of rows are called, in pieces."""
        places = (self.codes.searchsorted(one.values) for one in question.parts)
        return joined(b",".join(names[one].tolist()) for one in places)

    def _places(self, parts: Sequence[Part]) -> dict[str, list[bytes]]:
        """By feature which rows lie outside of what the model was trained on."""
        none = np.zeros((max(len(one.values) for one in parts), len(self._features)), np.bool_)
        outside = [none[: len(one.values)] if one.outside is None else one.outside for one in parts]
        columns = zip(self._features, np.concatenate(outside).T, strict=True)
        return {
            name: [orjson.dumps(np.flatnonzero(one), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]]
            for name, one in columns
            if one.any()
        }

    def _add_features(self, answer: bytes, outside: list[bool]) -> bytes:
        found = list(compress(self._features, outside))
        if not found:
            return answer
        return b'%b,"%b":%b}' % (answer[:-1], OUTSIDE_KEY.encode(), encode(found))

    def _answer(self, slot: msgspec.Raw) -> dict[str, Any]:
        """What is answered to rows, with slots for what the model says."""
        answer: dict[str, Any] = {self._target.response_name: slot}
        if self._target.labels:
            answer["label"] = slot
        if self._manifest.has_probabilities:
            answer["probabilities"] = dict.fromkeys(self._target.labels.values(), slot)
        return answer

    def _template(self, known: dict[str, Any]) -> bytes:
        answer = self._answer(_SLOT) | known | {"prediction_id": _NAME} | self._release
        return encode(answer).replace(b"%", b"%%").replace(_NUL, b"%b")


def _texts(names: Mapping[int, int | str]) -> Column:
    """The JSON of what classes are called, in the order of their codes."""
    return np.array([encode(one) for one in names.values()], object)
