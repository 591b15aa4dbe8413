"""Reads the rows of one contract from JSON and writes the answers to them.

A row is a type that ``contract.rules`` makes, so msgspec decodes and checks it at the speed of its
parser, whatever its columns hold. Only what msgspec refuses is looked at value by value, to say
where each fault is, what was given and what is allowed, or to cast it for protocols of fewer types.
One row waits to be encoded with those of others; many are encoded as they are read.
"""

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from itertools import chain, count, repeat
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.encoding import Encoder, Matrix, Values
from mlops_for_mle.contract.rules import (
    Precision,
    check_times,
    describe,
    fault,
    json_type,
)
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.releases.predictor import Predictions
from mlops_for_mle.serving.documents import (
    LONGEST_EXPLAINED,
    ROWS,
    VALUES,
    Text,
    encode,
    fields,
    kind_of,
    pieces,
    plain,
    quotes_in,
    read_json,
    typed,
)
from mlops_for_mle.serving.errors import Faults, FieldError, refused

COLUMNS_KEY = "columns"

_BOOLEANS = {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_BY_COLUMNS = re.compile(rb'\{\s*"columns"\s*:\s*')
_NUMBERS_A_TEXT = 20_000
_VALUES_A_PIECE = 5000

Columns = Sequence[Sequence[Any]]
"""A column of plain values for each feature, in the order of the contract."""

_values_of = msgspec.structs.astuple


class Form(Enum):
    """How rows stand in JSON."""

    ONE = "an object"
    LIST = "a list of objects"
    COLUMNS = "an object of lists"


class Rows(NamedTuple):
    """Rows that fit the contract.

    Attributes:
        count: How many.
        text: Their JSON, for the prediction log.
        form: How they stand there.
        matrix: As the contract's encoding has them; None where one row waits for others.
        columns: The values of that row.
    """

    count: int  # type: ignore[assignment]
    text: Text
    form: Form
    matrix: Matrix | None
    columns: Columns = ()


class _ByColumns(msgspec.Struct, forbid_unknown_fields=True):
    columns: msgspec.Raw


_DECODER_OF_COLUMNS = msgspec.json.Decoder(_ByColumns)


class Codec:
    """What a contract determines of requests and answers.

    Attributes:
        features: The contract's features.
        names: Theirs, in their order.
        encoder: Encodes their values for the model.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for the rows of a release."""
        contract, target = manifest.contract, manifest.contract.target
        self.features, self.names = contract.features, contract.feature_names
        self.encoder = Encoder(contract)
        self.precision: Precision = manifest.precision
        self.row_words = f"an object with {', '.join(self.names)}"
        types = {name: json_type(one, self.precision) for name, one in self.features.items()}
        row: Any = _row_type(types, self.features)
        self._decode_row = msgspec.json.Decoder(row).decode
        self.decode_rows = msgspec.json.Decoder(list[row]).decode
        self.list_types: dict[str, Any] = {name: list[one] for name, one in types.items()}  # type: ignore[valid-type]
        self.list_decoders = {
            name: msgspec.json.Decoder(one) for name, one in self.list_types.items()
        }
        kinds = list(enumerate(self.features.values()))
        self._optional = [place for place, one in kinds if one.is_optional]
        self._times = [(place, one) for place, one in kinds if one.is_time]
        self._name, self._labels = target.response_name, list(target.labels.values())
        self._release = {"model_version": manifest.version, "release": manifest.release}
        # What is answered for each code of a class.
        self._classes = {
            code: {self._name: target.values[code], "label": label}
            for code, label in target.labels.items()
        }
        # By the places of the codes, which are in ascending order.
        self._codes = np.array(target.class_codes)
        self._shown = {"label": np.array(self._labels, object)}
        if target.has_text_classes:
            self._shown[self._name] = np.array(target.class_values, object)

    def read(self, body: bytes) -> Rows:
        """Read a row as an object, a list of them, or ``{"columns": {feature: [values]}}``.

        Raises:
            ProblemError: 422, the body holds no such rows; names every field that is wrong.
        """
        return read_json(body, self._read, self.row_words)

    def _read(self, text: bytes) -> Rows:
        text = text.strip()
        if text[:1] == b"[":
            return self.read_list(text)
        if text[:1] != b"{":
            raise msgspec.ValidationError("is no object")
        found = _BY_COLUMNS.match(text)
        if found and (COLUMNS_KEY not in self.features or text[found.end() :][:1] == b"{"):
            raw = memoryview(typed(text, _DECODER_OF_COLUMNS).columns)
            if kind_of(raw) != b"{":
                allowed = f"an object with a list for each of {', '.join(self.names)}"
                raise refused(COLUMNS_KEY, "is no object", allowed)
            return self.read_columns(fields(raw, COLUMNS_KEY), COLUMNS_KEY, raw)
        try:
            columns = self.columns_of([self._decode_row(text)], text)
        except (msgspec.ValidationError, ValueError):
            reading = Reading(self)
            columns = [(one,) for one in reading.row(plain(text), "")]
            reading.faults.raise_if_any()
        return Rows(1, text, Form.ONE, None, columns)

    def read_list(self, text: Text, where: str = "", *, lenient: bool = False) -> Rows:
        """Read a list of rows.

        Args:
            text: Its JSON.
            where: Where it stands in the body.
            lenient: As for ``Reading``.

        Raises:
            ProblemError: 422.
        """
        reading, start = Reading(self, where, lenient=lenient), 0
        for piece in pieces(text, ROWS):
            columns = reading.rows(piece, start)
            for name, values in zip(self.names, columns, strict=False):
                reading.add(name, values)
            start += len(columns[0]) if columns else 0
        return reading.done(Form.LIST, text)

    def read_columns(
        self, given: Mapping[str, Text | Values], where: str, text: Text | None = None
    ) -> Rows:
        """Read lists of one length, one value a row.

        Args:
            given: For each feature the JSON of its list, or the values themselves.
            where: Where they stand in the body.
            text: The JSON of all; None to be lenient, as ``Reading`` has it.

        Raises:
            ProblemError: 422.
        """
        reading = Reading(self, where, lenient=text is None)
        if text is not None:
            _refuse_unknown(given, self.features, f"{where}.", reading.faults)
        for name, feature in self.features.items():
            if name in given:
                reading.add_column(name, given[name])
            elif not feature.is_optional:
                reading.faults.add(f"{where}.{name}", "is missing", "a list of values")
        return reading.done(Form.COLUMNS, text or b"")

    def columns_of(self, rows: Sequence[Any], text: Text) -> Columns:
        """The columns of rows that were decoded from a text.

        Raises:
            ValueError: A name is there more than once, or a time is not allowed.
        """
        if quotes_in(encode(rows)) != quotes_in(text):
            raise ValueError("a name is given more than once")
        columns: list[Sequence[Any]] = list(zip(*map(_values_of, rows), strict=True))
        for place in self._optional if columns else ():
            if UNSET in columns[place]:
                columns[place] = [None if one is UNSET else one for one in columns[place]]
        for place, feature in self._times if columns else ():
            check_times(columns[place], feature)
        return columns

    def matrix(self, given: Sequence[Rows]) -> Matrix:
        """Encode rows together."""
        if any(one.matrix is not None for one in given):
            return np.concatenate(
                [one.matrix if one.matrix is not None else self.matrix([one]) for one in given]
            )
        by_feature = zip(*(one.columns for one in given), strict=True)
        return self.encoder(map(list, map(chain.from_iterable, by_feature)))

    def answer(
        self, rows: Rows, predictions: Predictions, texts: Sequence[bytes], prediction_id: str
    ) -> bytes:
        """The body that answers rows in the form in which they were given.

        Args:
            rows: What was asked.
            predictions: The answers.
            texts: The same as ``texts_of`` writes them.
            prediction_id: The id of the request's predictions.
        """
        values, *chances = texts
        if rows.form is Form.COLUMNS:
            columns: dict[str, Any] = {self._name: msgspec.Raw(values)}
            if self._labels:
                places = np.searchsorted(self._codes, predictions.values)
                columns |= {name: names[places].tolist() for name, names in self._shown.items()}
            if chances:
                by_class = map(msgspec.Raw, chances)
                columns["probabilities"] = dict(zip(self._labels, by_class, strict=True))
            answer = {COLUMNS_KEY: columns, "prediction_id": prediction_id}
            return encode(answer | self._release)
        names = [prediction_id]
        if rows.count > 1:
            names = [f"{prediction_id}-{at}" for at in range(rows.count)]
        found = predictions.probabilities
        by_row = repeat(None) if found is None else found.tolist()
        answers = map(self._answer_of, predictions.values.tolist(), by_row, names)
        return next(answers) if rows.form is Form.ONE else b"[%b]" % b",".join(answers)

    def _answer_of(self, value: Any, chances: list[float] | None, name: str) -> bytes:
        answer: dict[str, Any] = {**self._classes[value]} if self._labels else {self._name: value}
        if chances is not None:
            answer["probabilities"] = dict(zip(self._labels, chances, strict=True))
        return encode({**answer, "prediction_id": name, **self._release})


class Reading:
    """Rows of one body as they are read: checked, encoded, and written for the prediction log.

    Attributes:
        faults: Takes what is wrong.
    """

    def __init__(self, codec: Codec, where: str = "", *, lenient: bool = False) -> None:
        """Begin without rows.

        Args:
            codec: Of their contract.
            where: Where they stand in the body.
            lenient: Whether unknown fields are ignored, and text and numbers are cast.
        """
        self.faults = Faults()
        self._codec, self._where, self._lenient = codec, where, lenient
        self._encoded: dict[str, list[Matrix]] = {}
        self._texts: dict[str, list[bytes]] = {}

    def rows(self, text: Text, start: int) -> Columns:
        """The columns of a list of rows, the first of which has the number ``start``."""
        codec = self._codec
        try:
            return codec.columns_of(codec.decode_rows(text), text)
        except (msgspec.ValidationError, ValueError) as error:
            if len(text) > LONGEST_EXPLAINED:
                raise refused(self._where, f"does not fit: {error}", codec.row_words) from None
        given = enumerate(plain(text), start)
        rows = [self.row(one, f"{self._where}[{at}]") for at, one in given]
        return list(zip(*rows, strict=True))

    def row(self, given: Any, path: str) -> list[Any]:
        """The values of one row."""
        codec = self._codec
        if not isinstance(given, dict):
            self.faults.add(path, "is no object", codec.row_words, given)
            return [None] * len(codec.names)
        if self._lenient:
            known = given.keys() & codec.features.keys()
            given = {name: _cast(given[name], codec.features[name]) for name in known}
        found = check_fields(given, codec.features, self.faults, path, codec.precision)
        return [found.get(name) for name in codec.names]

    def values(self, name: str, given: Text | Sequence[Any], paths: Iterable[str]) -> Sequence[Any]:
        """Values of one feature, with the places where they stand."""
        codec = self._codec
        feature = codec.features[name]
        try:
            if isinstance(given, Text):
                values: Sequence[Any] = codec.list_decoders[name].decode(given)
            else:
                values = msgspec.convert(given, codec.list_types[name])
            if feature.is_time:
                check_times(values, feature)
        except (msgspec.ValidationError, ValueError):
            values = plain(given) if isinstance(given, Text) else given
            if self._lenient:
                values = [_cast(one, feature) for one in values]
            return [
                _checked(one, feature, path, self.faults, codec.precision)
                for one, path in zip(values, paths, strict=False)
            ]
        return values

    def add(self, name: str, values: Sequence[Any]) -> None:
        """Append values to a column."""
        self._encoded.setdefault(name, []).append(self._codec.encoder.feature(name, values))
        if self._lenient:
            self._texts.setdefault(name, []).append(encode(values)[1:-1])

    def add_column(self, name: str, given: Text | Values) -> None:
        """Append a whole column: the JSON of a list, or its values."""
        path = f"{self._where}.{name}"
        if isinstance(given, Text) and kind_of(given) != b"[":
            allowed = f"a list in which each is {describe(self._codec.features[name])}"
            self.faults.add(path, "is no list", allowed)
            return
        start = 0
        for piece in pieces(given, VALUES) if isinstance(given, Text) else _slices(given):
            values = self.values(name, piece, (f"{path}[{at}]" for at in count(start)))
            self.add(name, values)
            start += len(values)

    def add_table(self, given: Mapping[str, Sequence[Any]], rows: range) -> None:
        """Append rows as columns of plain values; of a feature that is absent all are missing."""
        for name in self._codec.names:
            values = given.get(name, [None] * len(rows))
            paths = (f"{self._where}[{at}].{name}" for at in rows)
            self.add(name, self.values(name, values, paths))

    def done(self, form: Form, text: Text = b"") -> Rows:
        """All that was read, with its text.

        Raises:
            ProblemError: 422, something was wrong, there are no rows, or not one length.
        """
        codec, faults = self._codec, self.faults
        lengths = {
            name: sum(one.shape[1] for one in found) for name, found in self._encoded.items()
        }
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            faults.found.append(FieldError(self._where, "differ in length", told, "one length"))
        elif not any(lengths.values()):
            faults.add(self._where, "has no rows", "at least one row")
        faults.raise_if_any()
        size = max(lengths.values())
        for name in codec.names:
            if name not in lengths:
                self.add(name, [None] * size)
        parts = [np.concatenate(self._encoded.pop(name), axis=1) for name in codec.names]
        if self._lenient:
            lists = {name: b"[%b]" % b",".join(self._texts.pop(name)) for name in codec.names}
            form = Form.COLUMNS
            text = encode({name: msgspec.Raw(one) for name, one in lists.items()})
        return Rows(size, text, form, np.concatenate(parts).T)


def _slices(values: Values) -> Iterator[Sequence[Any]]:
    for at in range(0, len(values), _VALUES_A_PIECE):
        part = values[at : at + _VALUES_A_PIECE]
        yield part.tolist() if isinstance(part, np.ndarray) else part


def check_fields(
    given: Mapping[str, Any],
    features: Mapping[str, Feature],
    faults: Faults,
    path: str = "",
    precision: Precision = "float64",
    *,
    may_lack: Container[str] = (),
) -> dict[str, Any]:
    """Check the fields of one row.

    Args:
        given: Plain values by name.
        features: What they may be.
        faults: Takes what is wrong.
        path: Where the row stands.
        precision: Of the model that is to take them.
        may_lack: Fields that may be left out, and then have no value.

    Returns:
        The values in the types that the table holds; null for what may be missing, or is wrong.
    """
    prefix = f"{path}." if path else ""
    found = {}
    for name, feature in features.items():
        if name in given:
            found[name] = _checked(given[name], feature, prefix + name, faults, precision)
        elif name not in may_lack:
            found[name] = None
            if not feature.is_optional:
                faults.add(prefix + name, "is missing", describe(feature))
    _refuse_unknown(given, features, prefix, faults)
    return found


def _checked(given: Any, feature: Feature, path: str, faults: Faults, precision: Precision) -> Any:
    message = fault(given, feature, precision)
    if message is not None:
        faults.add(path, message, describe(feature), given)
        return None
    if given is None:
        return None
    if feature.has_integer_categories:
        return int(given)
    return float(given) if feature.is_number else given


def _cast(given: Any, feature: Feature) -> Any:
    """A value of a protocol with fewer types as a feature holds it, as far as that is possible.

    Blank text and NaN are missing values; text is read as what the feature holds; 0 and 1 are
    booleans. What cannot be cast is given back, for the checks to refuse.
    """
    is_blank = isinstance(given, str) and not given.strip()
    if is_blank or (isinstance(given, float) and math.isnan(given)):
        return None
    if feature.type == "boolean":
        name = given.lower() if isinstance(given, str) else given
        return _BOOLEANS.get(name, given) if isinstance(name, str | float | int) else given
    if isinstance(given, bool) and feature.is_number:
        return float(given)
    if isinstance(given, str) and (feature.is_number or feature.has_integer_categories):
        with suppress(ValueError):
            return float(given)
    return given


def _refuse_unknown(
    given: Mapping[str, Any], known: Iterable[str], prefix: str, faults: Faults
) -> None:
    names = dict.fromkeys(known)
    for name, one in given.items():
        if name not in names:
            given_value = UNSET if isinstance(one, memoryview) else one
            faults.add(prefix + name, "is an unknown field", ", ".join(names), given_value)


def _row_type(types: Mapping[str, Any], features: Mapping[str, Feature]) -> Any:
    """The type of a row in JSON, whose fields are in the order of the contract."""
    if any(map(_ESCAPED.search, types)):
        # msgspec has no such fields. What refuses every object lets each value be looked at.
        return int
    typed: list[Any] = [
        (f"field_{place}", types[name] | msgspec.UnsetType, UNSET)
        if one.is_optional
        else (f"field_{place}", types[name])
        for place, (name, one) in enumerate(features.items())
    ]
    names = {f"field_{place}": name for place, name in enumerate(features)}
    return msgspec.defstruct(
        "Row", typed, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False
    )


def texts_of(predictions: Predictions) -> list[bytes]:
    """Answers as JSON lists: the values, and the probabilities of each class."""
    chances = predictions.probabilities
    columns = [predictions.values, *(() if chances is None else chances.T)]
    return [_list_of(one) for one in columns]


def _list_of(numbers: Any) -> bytes:
    """The JSON of an array, written in parts, since Python's numbers are large."""
    if len(numbers) <= _NUMBERS_A_TEXT:
        return encode(numbers.tolist())
    starts = range(0, len(numbers), _NUMBERS_A_TEXT)
    parts = (encode(numbers[at : at + _NUMBERS_A_TEXT].tolist())[1:-1] for at in starts)
    return b"[%b]" % b",".join(parts)
