"""Reads the rows of one contract from JSON.

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
from itertools import chain, count
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.encoding import Encoder, Matrix, Values
from mlops_for_mle.contract.model import normalised
from mlops_for_mle.contract.rules import Precision, check_times, describe, fault, json_type
from mlops_for_mle.releases.manifest import Manifest
from mlops_for_mle.serving.documents import (
    LONGEST_EXPLAINED,
    REFUSALS,
    ROWS,
    VALUES,
    Text,
    encode,
    fields,
    kind_of,
    pieces,
    plain,
    read_json,
)
from mlops_for_mle.serving.errors import Faults, refused

COLUMNS_KEY, OUTSIDE_KEY = "columns", "outside_training"
MOST_ROWS = 100_000
"""Of one request, which bounds its memory: an answer may be many times as long as its rows."""

_BOOLEANS = {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_HAS_COLUMNS = re.compile(rb'\{\s*"columns"\s*:\s*')
_VALUES_A_PIECE = 5000

Value = TypeVar("Value")
Columns = Sequence[Sequence[Any]]
"""A column of plain values for each feature, in the order of the contract."""


class Form(bytes, Enum):
    """How rows stand in JSON: an object, a list of objects, or an object of lists."""

    ONE = b"ONE"
    LIST = b"LIST"
    COLUMNS = b"COLUMNS"


class Rows(NamedTuple):
    """Rows that fit the contract.

    Attributes:
        text: Their JSON, for the prediction log.
        matrix: As the contract's encoding has them; None where one row waits for others.
        columns: The values of that row.
    """

    count: int  # type: ignore[assignment]
    text: Text
    form: Form
    matrix: Matrix | None
    columns: Columns = ()


class _ByColumns(msgspec.Struct, forbid_unknown_fields=True):
    columns: dict[str, msgspec.Raw]


_BY_COLUMNS = msgspec.json.Decoder(_ByColumns)


class Codec:
    """What a contract determines of requests.

    What cannot be read raises ProblemError 422, which names every field that is wrong.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for the rows of a release."""
        contract = manifest.contract
        self.features, self.names = contract.features, contract.feature_names
        self.encoder = Encoder(contract)
        self.precision: Precision = manifest.precision
        self.row_words = f"an object with {', '.join(self.names)}"
        types = {name: json_type(one, self.precision) for name, one in self.features.items()}
        row: Any = _row_type(types, self.features)
        self._decode_row = msgspec.json.Decoder(row).decode
        self._decode_rows = msgspec.json.Decoder(list[row]).decode
        self.list_types: dict[str, Any] = {name: list[one] for name, one in types.items()}  # type: ignore[valid-type]
        self.list_decoders = {
            name: msgspec.json.Decoder(one) for name, one in self.list_types.items()
        }
        lists: Any = msgspec.defstruct(
            "Columns",
            [("columns", _row_type(self.list_types, self.features))],
            forbid_unknown_fields=True,
        )
        self._decode_columns = msgspec.json.Decoder(lists).decode
        kinds = enumerate(self.features.values())
        self._times = [(place, one) for place, one in kinds if one.is_time]

    def read(self, body: bytes) -> Rows:
        """Read a row as an object, a list of them, or ``{"columns": {feature: [values]}}``."""
        try:
            columns = self._columns_of([self._decode_row(body)])
        except (*REFUSALS, ValueError):
            return read_json(body, self._read, self.row_words)
        return Rows(1, body, Form.ONE, None, columns)

    def _read(self, text: bytes) -> Rows:
        text = text.strip()
        if text[:1] == b"[":
            return self.read_list(text)
        found = _HAS_COLUMNS.match(text)
        if found and (COLUMNS_KEY not in self.features or text.startswith(b"{", found.end())):
            return self._read_columns(text)
        reading = Reading(self)
        columns = [(one,) for one in reading.row(plain(text), "")]
        reading.faults.raise_if_any()
        return Rows(1, text, Form.ONE, None, columns)

    def _read_columns(self, text: bytes) -> Rows:
        columns = self._decoded_columns(text) if len(text) <= LONGEST_EXPLAINED else None
        if columns is None:
            return self.read_columns(fields(text, _BY_COLUMNS).columns, COLUMNS_KEY, text)
        reading = Reading(self, COLUMNS_KEY)
        for name, values in zip(self.names, columns, strict=True):
            if values is not None:
                reading.add(name, values)
        return reading.done(Form.COLUMNS, text)

    def _decoded_columns(self, text: bytes) -> tuple[Any, ...] | None:
        """All columns of a body in one go; None where something in it has to be told of."""
        try:
            columns = msgspec.structs.astuple(self._decode_columns(text).columns)
            for place, feature in self._times:
                check_times(columns[place] or (), feature)
        except (msgspec.ValidationError, ValueError):
            return None
        return columns

    def read_list(self, text: Text, where: str = "", *, lenient: bool = False) -> Rows:
        """Read a list of rows that stands somewhere in the body."""
        reading, start = Reading(self, where, lenient=lenient), 0
        for piece in pieces(text, ROWS):
            columns: Columns
            try:
                columns = self._columns_of(self._decode_rows(piece))
            except (msgspec.ValidationError, ValueError) as error:
                if len(piece) > LONGEST_EXPLAINED:
                    raise refused(where, f"does not fit: {error}", self.row_words) from None
                given = enumerate(plain(piece), start)
                rows = [reading.row(one, f"{where}[{at}]") for at, one in given]
                columns = list(zip(*rows, strict=True))
            for name, values in zip(self.names, columns, strict=False):
                reading.add(name, values)
            start += len(columns[0]) if columns else 0
        return reading.done(Form.LIST, text)

    def read_columns(
        self, given: Mapping[str, msgspec.Raw | Values], where: str, text: Text | None = None
    ) -> Rows:
        """Read lists of one length, one value a row: their JSON, or the values themselves.

        Strictly where ``text``, the JSON of the body, is given, else leniently.
        """
        reading = Reading(self, where, lenient=text is None)
        given = _known_names(given, self.features)
        if text is not None:
            _refuse_unknown(given, self.features, f"{where}.", reading.faults)
        for name, feature in self.features.items():
            if name in given:
                reading.add_column(name, given[name])
            elif not feature.is_optional:
                reading.faults.add(f"{where}.{name}", "is missing", "a list of values")
        return reading.done(Form.COLUMNS, text or b"")

    def matrix(self, given: Sequence[Rows]) -> Matrix:
        """Encode rows together."""
        if any(one.matrix is not None for one in given):
            return np.concatenate(
                [one.matrix if one.matrix is not None else self.matrix([one]) for one in given]
            )
        by_feature = zip(*(one.columns for one in given), strict=True)
        return self.encoder(map(list, map(chain.from_iterable, by_feature)))

    def _columns_of(self, rows: Sequence[Any]) -> Columns:
        """The columns of decoded rows; ValueError, a time is not allowed."""
        columns = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
        for place, feature in self._times if columns else ():
            check_times(columns[place], feature)
        return columns


class Reading:
    """Rows of one body as they are read: checked, encoded, and written for the prediction log."""

    def __init__(self, codec: Codec, where: str = "", *, lenient: bool = False) -> None:
        """Begin without rows; a lenient one ignores unknown fields, and casts text and numbers."""
        self.faults, self.where = Faults(), where
        self._codec, self._lenient = codec, lenient
        self._lengths: dict[str, int] = {}
        self._encoded: dict[str, list[Matrix]] = {name: [] for name in codec.names}
        self._texts: dict[str, list[bytes]] = {name: [] for name in codec.names}

    def row(self, given: Any, path: str) -> list[Any]:
        """The values of one row."""
        codec = self._codec
        if not isinstance(given, dict):
            self.faults.add(path, "is no object", codec.row_words, given)
            return [None] * len(codec.names)
        if self._lenient:
            given = _known_names(given, codec.features)
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
        self._lengths[name] = length = self._lengths.get(name, 0) + len(values)
        if length > MOST_ROWS:
            raise refused(self.where, "has too many rows", f"at most {MOST_ROWS} a request")
        self._encoded[name].append(self._codec.encoder.feature(name, values))
        if self._lenient:
            self._texts[name].append(encode(values)[1:-1])

    def add_column(self, name: str, given: msgspec.Raw | Values) -> None:
        """Append a whole column: the JSON of a list, or its values."""
        path, start = f"{self.where}.{name}", 0
        if not isinstance(given, msgspec.Raw):
            parts: Iterable[Any] = _slices(given)
        elif kind_of(text := memoryview(given)) == b"[":
            parts = pieces(text, VALUES)
        else:
            allowed = f"a list in which each is {describe(self._codec.features[name])}"
            self.faults.add(path, "is no list", allowed)
            return
        for piece in parts:
            values = self.values(name, piece, (f"{path}[{at}]" for at in count(start)))
            self.add(name, values)
            start += len(values)

    def add_table(self, given: Mapping[str, Sequence[Any]], rows: range) -> None:
        """Append rows as columns of plain values; of a feature that is absent all are missing."""
        for name in self._codec.names:
            values = given.get(name, [None] * len(rows))
            paths = (f"{self.where}[{at}].{name}" for at in rows)
            self.add(name, self.values(name, values, paths))

    def done(self, form: Form, text: Text = b"") -> Rows:
        """All that was read, unless something was wrong with it."""
        found, faults, lengths = self._encoded, self.faults, self._lengths
        size = max(lengths.values(), default=0)
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            faults.add(self.where, "differ in length", "one length", told)
        elif not size:
            faults.add(self.where, "has no rows", "at least one row")
        faults.raise_if_any()
        for name in found.keys() - lengths.keys():
            self.add(name, [None] * size)
        columns = (one[0] if len(one) == 1 else np.hstack(one) for one in found.values())
        matrix = np.concatenate(list(columns)).T
        if self._lenient:
            form = Form.COLUMNS
            lists = {name: b"[%b]" % b",".join(parts) for name, parts in self._texts.items()}
            text = encode({COLUMNS_KEY: {name: msgspec.Raw(one) for name, one in lists.items()}})
        return Rows(size, text, form, matrix)


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
    """Check the plain values of one row, whose fields ``may_lack`` may be left out.

    Returns:
        The values in the types that the table holds; None for what may be missing, or is wrong.
    """
    prefix = f"{path}." if path else ""
    given, found = _known_names(given, features), {}
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


def _known_names(given: Mapping[str, Value], known: Container[str]) -> Mapping[str, Value]:
    """Fields by their names in Unicode's form NFC, which those of a contract have."""
    if all(name in known for name in given):
        return given
    plain = {name: normalised(name) for name in given}
    return {name if plain[name] in given else plain[name]: one for name, one in given.items()}


def _refuse_unknown(
    given: Mapping[str, Any], known: Mapping[str, Any], prefix: str, faults: Faults
) -> None:
    for name, one in given.items():
        if name not in known:
            told = msgspec.UNSET if isinstance(one, msgspec.Raw) else one
            faults.add(prefix + name, "is an unknown field", ", ".join(known), told)


def _row_type(types: Mapping[str, Any], features: Mapping[str, Feature]) -> Any:
    """The type of a row in JSON, whose fields are in the order of the contract."""
    if any(map(_ESCAPED.search, types)):
        # msgspec has no such fields. What refuses every object lets each value be looked at.
        return int
    names = {f"field_{place}": name for place, name in enumerate(types)}
    typed: list[Any] = [
        (field, types[name], None) if features[name].is_optional else (field, types[name])
        for field, name in names.items()
    ]
    return msgspec.defstruct(
        "Row", typed, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False
    )
