"""Reads the rows of one contract from JSON.

A row is a type that ``contract.rules`` makes, so msgspec decodes and checks it at the speed of its
parser, whatever its columns hold. Only what msgspec refuses is looked at value by value: to say
where each fault is, what was given and what is allowed, or to cast it for protocols of fewer types.
"""

import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from itertools import count
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.encoding import Encoder, Matrix, Values
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.contract.rules import Precision, describe, fault, json_type, text_check
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.documents import (
    CHUNK,
    DECODE_ERRORS,
    ROWS,
    VALUES,
    decode_fields,
    encode,
    plain,
    read_json,
    split_list,
)
from mlops_for_mle.serving.errors import Faults, refused

COLUMNS_KEY, OUTSIDE_KEY = "columns", "outside_training"
MAX_ROWS = 100_000
"""Of one request, which bounds its memory: an answer may be many times as long as its rows."""

# So many are predicted at once, which bounds the memory of the model.
_ROWS_A_PART = 2048
_BOOLEANS = {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_BY_COLUMNS = re.compile(rb'\{\s*"columns"\s*:\s*\{')

Value = TypeVar("Value")
RawValues = msgspec.Raw | Values
"""The values of a feature: the JSON of a list, or themselves."""


class Form(bytes, Enum):
    """How rows stand in JSON: an object, a list of objects, or an object of lists."""

    ONE = b"ONE"
    LIST = b"LIST"
    COLUMNS = b"COLUMNS"


class Rows(msgspec.Struct):
    """Rows that fit the contract.

    Attributes:
        text: Their JSON, for the prediction log.
        row: The plain values of a single row, to be encoded with those of other requests.
        matrices: Any other rows, encoded, in parts.
    """

    count: int
    text: bytes
    form: Form
    row: Sequence[Any] = ()
    matrices: list[Matrix] = []


class _ColumnsBody(msgspec.Struct, forbid_unknown_fields=True):
    columns: dict[str, msgspec.Raw]


_COLUMNS_BODY = msgspec.json.Decoder(_ColumnsBody)


class Codec:
    """What a contract determines of requests.

    What cannot be read raises ProblemError 422, which names every field that is wrong.
    """

    def __init__(self, manifest: Manifest) -> None:
        contract = manifest.contract
        self.features, self.names = contract.features, tuple(contract.features)
        self.precision: Precision = manifest.precision
        self.encoder = Encoder(contract, self.precision)
        self.row_words = f"an object with {', '.join(self.names)}"
        types = {name: json_type(feature) for name, feature in self.features.items()}
        row: Any = _row_type(types, self.features)
        self._decode_row = msgspec.json.Decoder(row).decode
        self.decode_rows = msgspec.json.Decoder(list[row]).decode
        self.list_decoders: dict[str, Any] = {
            name: msgspec.json.Decoder(list[value_type])  # type: ignore[valid-type]
            for name, value_type in types.items()
        }
        self._checks = {name: text_check(feature) for name, feature in self.features.items()}
        checks = enumerate(self._checks.values())
        self._row_checks = [(index, check) for index, check in checks if check is not None]

    def read(self, body: bytes) -> Rows:
        """Read a row as an object, a list of them, or ``{"columns": {feature: [values]}}``."""
        try:
            row = msgspec.structs.astuple(self._decode_row(body))
            for index, check in self._row_checks:
                check(row[index])
        except (*DECODE_ERRORS, ValueError):
            return read_json(body, self._read, self.row_words)
        return Rows(1, body, Form.ONE, row)

    def _read(self, text: bytes) -> Rows:
        text, reader = text.strip(), RowsReader(self)
        if _BY_COLUMNS.match(text):
            reader.where = COLUMNS_KEY
            return reader.read_columns(decode_fields(text, _COLUMNS_BODY).columns, text)
        return reader.read_list(text) if text[:1] == b"[" else reader.read_row(text)

    def encode(self, rows: Iterable[Rows]) -> Matrix:
        """Encode single rows together."""
        return self.encoder(zip(*(single.row for single in rows), strict=True))

    def matrix(self, rows: Rows) -> Matrix:
        """All rows of a request, encoded."""
        if not rows.matrices:
            return self.encode([rows])
        return np.concatenate(rows.matrices, dtype=self.precision)

    def check_texts(self, name: str, values: Sequence[Any]) -> None:
        """Check what a feature's JSON type leaves open; ValueError where a text is not allowed."""
        check = self._checks[name]
        if check is not None:
            for value in set(values):
                check(value)


class RowsReader:
    """Rows of one body as they are read: checked, encoded, and written for the prediction log.

    With ``lenient``, unknown fields are ignored, and text and numbers cast; ``where`` is the path
    of the rows in the body.
    """

    def __init__(self, codec: Codec, where: str = "", *, lenient: bool = False) -> None:
        self.faults, self.where = Faults(), where
        self._codec, self._lenient = codec, lenient
        # Whether columns are written anew, since their values are cast or their names normalised.
        self._writes_columns = lenient
        self._lengths: dict[str, int] = {}
        self._encoded: dict[str, list[Matrix]] = {name: [] for name in codec.names}
        self._texts: dict[str, list[bytes]] = {name: [] for name in codec.names}

    def read_row(self, text: bytes) -> Rows:
        """Read an object that was refused as a whole."""
        row = self._row(plain(text), "")
        self.faults.raise_if_any()
        return Rows(1, self._as_json([row])[1:-1], Form.ONE, row)

    def read_list(self, text: bytes) -> Rows:
        """Read the JSON of a list of objects."""
        codec, start, texts = self._codec, 0, list[bytes]()
        for piece in split_list(text, ROWS):
            columns: list[tuple[Any, ...]]
            try:
                decoded = map(msgspec.structs.astuple, codec.decode_rows(piece))
                columns = list(zip(*decoded, strict=True))
                for name, values in zip(codec.names, columns, strict=False):
                    codec.check_texts(name, values)
            except (msgspec.ValidationError, ValueError):
                numbered = enumerate(plain(piece), start)
                rows = [self._row(given, f"{self.where}[{number}]") for number, given in numbered]
                columns = list(zip(*rows, strict=True))
                texts.append(self._as_json(rows)[1:-1])
            else:
                texts.append(piece.strip()[1:-1])
            for name, values in zip(codec.names, columns, strict=False):
                self._add(name, values)
            start += len(columns[0]) if columns else 0
        return self.done(Form.LIST, b"[%b]" % b",".join(texts))

    def read_columns(self, given: Mapping[str, RawValues], text: bytes = b"") -> Rows:
        """Read a list for each feature, one value a row; ``text`` is the JSON of the body."""
        features = self._codec.features
        columns = _by_known_names(given, features)
        if not self._lenient:
            _refuse_unknown(columns, features, f"{self.where}.", self.faults)
        self._writes_columns |= columns is not given
        for name, feature in features.items():
            if name in columns:
                self._add_column(name, columns[name])
            elif not feature.is_optional:
                self.faults.add(f"{self.where}.{name}", "is missing", "a list of values")
        return self.done(Form.COLUMNS, text)

    def check(self, name: str, given: bytes | Sequence[Any], paths: Iterable[str]) -> int:
        """Check and append values of one feature; gives how many. ``paths`` tell where they are."""
        codec = self._codec
        feature, decoder, text = codec.features[name], codec.list_decoders[name], None
        try:
            if isinstance(given, bytes):
                values, text = decoder.decode(given), given
            else:
                is_cast = self._lenient and (feature.is_number or feature.has_integer_categories)
                values = msgspec.convert(given, decoder.type, strict=not is_cast)
            codec.check_texts(name, values)
        except (msgspec.ValidationError, ValueError):
            text = None
            values = plain(given) if isinstance(given, bytes) else given
            if self._lenient:
                values = [_cast(value, feature) for value in values]
            values = [
                _checked(value, feature, path, self.faults)
                for value, path in zip(values, paths, strict=False)
            ]
        self._add(name, values, text)
        return len(values)

    def done(self, form: Form, text: bytes = b"") -> Rows:
        """All that was read, unless something was wrong with it."""
        encoded, faults, lengths = self._encoded, self.faults, self._lengths
        size = max(lengths.values(), default=0)
        if len(set(lengths.values())) > 1:
            given = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            faults.add(self.where, "differ in length", "one length", given)
        elif not size:
            faults.add(self.where, "has no rows", "at least one row")
        faults.raise_if_any()
        for name in encoded.keys() - lengths.keys():
            self._add(name, [None] * size)
        # What was joined is freed at once, since numbers take more memory than their text.
        names = list(encoded)
        columns = [np.concatenate(encoded.pop(name), axis=1) for name in names]
        slices = (slice(start, start + _ROWS_A_PART) for start in range(0, size, _ROWS_A_PART))
        matrices = [np.concatenate([column[:, rows] for column in columns]).T for rows in slices]
        del columns
        if self._writes_columns:
            form, texts = Form.COLUMNS, [b'{"columns":{']
            for name in names:
                texts += [encode(name), b":[", *self._texts[name][1:], b"]", b","]
            text = b"".join([*texts[:-1], b"}}"])
        return Rows(size, text, form, matrices=matrices)

    def _as_json(self, rows: Iterable[Sequence[Any]]) -> bytes:
        """A list of rows under the names of the contract."""
        return encode([dict(zip(self._codec.names, row, strict=True)) for row in rows])

    def _row(self, given: Any, path: str) -> list[Any]:
        """The values of a row that was decoded without its type, in the order of the features."""
        codec = self._codec
        if not isinstance(given, dict):
            self.faults.add(path, "is no object", codec.row_words, given)
            return [None] * len(codec.names)
        if self._lenient:
            row, items = _by_known_names(given, codec.features), codec.features.items()
            given = {name: _cast(row[name], feature) for name, feature in items if name in row}
        values = check_fields(given, codec.features, self.faults, path)
        return [values.get(name) for name in codec.names]

    def _add_column(self, name: str, given: RawValues) -> None:
        path, start = f"{self.where}.{name}", 0
        if not isinstance(given, msgspec.Raw):
            parts: Iterable[Any] = [given.tolist() if isinstance(given, np.ndarray) else given]
        elif (text := bytes(given))[:1] == b"[":
            # Each different value is looked at once a piece.
            parts = split_list(text, VALUES, 2 * CHUNK)
        else:
            allowed = f"a list in which each is {describe(self._codec.features[name])}"
            self.faults.add(path, "is no list", allowed)
            return
        for piece in parts:
            start += self.check(name, piece, (f"{path}[{number}]" for number in count(start)))

    def _add(self, name: str, values: Sequence[Any], text: bytes | None = None) -> None:
        """Append values that were checked; ``text`` is their JSON, if it is there already."""
        self._lengths[name] = length = self._lengths.get(name, 0) + len(values)
        if length > MAX_ROWS:
            raise refused(self.where, "has too many rows", f"at most {MAX_ROWS} a request")
        self._encoded[name].append(self._codec.encoder.feature(name, values))
        if self._writes_columns:
            self._texts[name] += [b",", (text or encode(values)).strip()[1:-1]]


def check_fields(
    given: Mapping[str, Any],
    features: Mapping[str, Feature],
    faults: Faults,
    path: str = "",
    *,
    may_lack: Container[str] = (),
) -> dict[str, Any]:
    """Check the plain values of one row, whose fields ``may_lack`` may be left out.

    Returns:
        The values in the types that the table holds; None for what may be missing, or is wrong.
    """
    prefix = f"{path}." if path else ""
    given, values = _by_known_names(given, features), {}
    for name, feature in features.items():
        if name in given:
            values[name] = _checked(given[name], feature, prefix + name, faults)
        elif name not in may_lack:
            values[name] = None
            if not feature.is_optional:
                faults.add(prefix + name, "is missing", describe(feature))
    _refuse_unknown(given, features, prefix, faults)
    return values


def _checked(given: Any, feature: Feature, path: str, faults: Faults) -> Any:
    message = fault(given, feature)
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

    Blank text and NaN are missing values. What cannot be cast is left, for the checks to refuse.
    """
    if isinstance(given, str):
        if not given.strip():
            return None
        if feature.is_number or feature.has_integer_categories:
            with suppress(msgspec.ValidationError):
                given = msgspec.convert(given.strip(), float | None, strict=False)
    if isinstance(given, float) and math.isnan(given):
        return None
    if feature.type == "boolean" and isinstance(given, str | float | int):
        return _BOOLEANS.get(given.lower() if isinstance(given, str) else given, given)
    return float(given) if isinstance(given, bool) and feature.is_number else given


def _by_known_names(fields: Mapping[str, Value], known: Container[str]) -> Mapping[str, Value]:
    """Fields by their names in Unicode's form NFC, which those of a contract have."""
    if all(name in known for name in fields):
        return fields
    nfc = {name: normalised(name) for name in fields}
    return {name if nfc[name] in fields else nfc[name]: value for name, value in fields.items()}


def _refuse_unknown(
    fields: Mapping[str, Any], known: Mapping[str, Any], prefix: str, faults: Faults
) -> None:
    for name, value in fields.items():
        if name not in known:
            given = msgspec.UNSET if isinstance(value, msgspec.Raw) else value
            faults.add(prefix + name, "is an unknown field", ", ".join(known), given)


def _row_type(types: Mapping[str, Any], features: Mapping[str, Feature]) -> Any:
    if any(map(_ESCAPED.search, types)):
        # msgspec has no such fields. A type that refuses all lets each value be looked at.
        return Annotated[int, msgspec.Meta(gt=0, lt=0)]
    names = {f"field_{index}": name for index, name in enumerate(types)}
    typed: list[Any] = [
        (field, types[name], None) if features[name].is_optional else (field, types[name])
        for field, name in names.items()
    ]
    return msgspec.defstruct(
        "Row", typed, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False
    )
