"""Reads the rows of one contract from JSON and writes the answers to them.

A row is a type that ``contract.rules`` makes, so msgspec decodes and checks it at the speed of its
parser, whatever its columns hold. Only what msgspec refuses is looked at value by value, to say
where each fault is, what was given and what is allowed. Inside, rows are columns: of one value for
one row, and of some thousand for large bodies, which are encoded piece by piece as they are read.
"""

import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from itertools import chain, repeat
from operator import mod
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.encoding import Encoder, Matrix
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
    PIECE,
    REFUSALS,
    ROWS,
    VALUES,
    Text,
    elements,
    fields,
    json_text,
    kind_of,
    pieces,
    quotes_in,
    value,
)
from mlops_for_mle.serving.errors import Faults, FieldError, refused, shown

COLUMNS_KEY = "columns"

_ABSENT: Any = object()
_BOOLEANS = {"true": True, "1": True, 1: True, "false": False, "0": False, 0: False}
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_BY_COLUMNS = re.compile(rb'\{\s*"columns"\s*:\s*')
_LONGEST_EXPLAINED = 4 * PIECE
_NUMBERS_A_TEXT = 20_000
# Stands for what is filled in later; JSON text never holds this byte.
_SLOT = msgspec.Raw(b"\x00")

Columns = Sequence[Sequence[Any]]
"""A column of plain values for each feature."""

encode = msgspec.json.Encoder().encode
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
        columns: Their values; None where they were encoded already.
        matrix: As the contract's encoding has them; None where they were not encoded yet.
    """

    count: int  # type: ignore[assignment]
    text: Text
    form: Form
    columns: Columns | None
    matrix: Matrix | None = None


class Codec:
    """What a contract determines of requests and answers.

    Attributes:
        features: The contract's features.
        names: Theirs, in their order.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Prepare for the rows of a release."""
        contract, target = manifest.contract, manifest.contract.target
        self.features, self.names = contract.features, contract.feature_names
        self.encoder = Encoder(contract)
        self._precision: Precision = manifest.precision
        self._row_words = f"an object with {', '.join(self.names)}"
        types = {name: json_type(one, self._precision) for name, one in self.features.items()}
        self._decode_row: Callable[[Text], Any] = _refuse
        self._decode_rows: Callable[[Text], Any] = _refuse
        if not any(map(_ESCAPED.search, self.names)):
            row: Any = _row_type(types, self.features)
            self._decode_row = msgspec.json.Decoder(row).decode
            self._decode_rows = msgspec.json.Decoder(list[row]).decode
        self._lists: dict[str, Any] = {name: list[one] for name, one in types.items()}  # type: ignore[valid-type]
        self._decode_list = {
            name: msgspec.json.Decoder(one).decode for name, one in self._lists.items()
        }
        kinds = list(enumerate(self.features.values()))
        self._optional = [place for place, one in kinds if one.is_optional]
        self._times = [(place, one) for place, one in kinds if one.is_time]
        self._texts = [place for place, one in kinds if _is_text(one)]
        self._name, self._labels = target.response_name, target.labels
        self._values: Mapping[Any, Any] = target.values
        self._release = {"model_version": manifest.version, "release": manifest.release}
        # By the texts of the codes.
        self._templates = {
            encode(code) if self._labels else b"": self._template(
                code, has_probabilities=manifest.has_probabilities
            )
            for code in self._labels or [None]
        }
        # By the places of the codes, which are in ascending order.
        self._codes = np.array(target.class_codes)
        self._shown = {"label": np.array(list(self._labels.values()), object)}
        if target.has_text_classes:
            self._shown[self._name] = np.array(target.class_values, object)

    def read(self, body: Text) -> Rows:
        """Read a row as an object, a list of them, or ``{"columns": {feature: [values]}}``.

        Raises:
            ProblemError: 422, the body holds no such rows; names every field that is wrong.
        """
        try:
            return self._read(body)
        except REFUSALS:
            text = json_text(body)
        if kind_of(text) not in (b"{", b"["):
            raise refused("", "is no object", self._row_words, shown(value(text)))
        try:
            return self._read(text)
        except REFUSALS as error:
            raise refused("", f"does not fit: {error}", self._row_words) from None

    def read_list(self, raw: Text, where: str = "", *, lenient: bool = False) -> Rows:
        """Read a list of rows.

        Args:
            raw: Its JSON.
            where: Where it stands in the body.
            lenient: Whether unknown fields are ignored, and text and numbers are cast.

        Raises:
            ProblemError: 422.
        """
        faults = Faults()
        parts = self._parts_of_rows(raw, where, faults, lenient=lenient)
        rows = self.rows(parts) if lenient else self._joined(parts, raw, Form.LIST)
        faults.raise_if_any()
        if not rows.count:
            raise refused(where, "has no rows", "at least one row")
        return rows

    def read_columns(
        self, given: Mapping[str, Text | Sequence[Any]], where: str, text: Text | None = None
    ) -> Rows:
        """Read lists of one length, one value a row.

        Args:
            given: For each feature the JSON of its list, or the values themselves.
            where: Where they stand in the body.
            text: The JSON of all; None where unknown names are ignored and values are cast.

        Raises:
            ProblemError: 422.
        """
        faults, lenient = Faults(), text is None
        if not lenient:
            _refuse_unknown(given, self.features, f"{where}.", faults)
        found: dict[str, Matrix] = {}
        texts: dict[str, list[bytes]] = {}
        for name, feature in self.features.items():
            path, allowed = f"{where}.{name}", f"a list in which each is {describe(feature)}"
            raw = given.get(name, b"")
            if name in given and isinstance(raw, Text) and kind_of(raw) != b"[":
                faults.add(path, "is no list", allowed, value(raw))
            elif name in given:
                encoded, texts[name] = [], []
                for values in self._parts_of_column(name, raw, path, faults, lenient=lenient):
                    encoded.append(self.encoder.feature(name, values))
                    if lenient:
                        texts[name].append(encode(values)[1:-1])
                found[name] = np.concatenate(encoded, axis=1)
            elif not feature.is_optional:
                faults.add(path, "is missing", allowed)
        lengths = {name: one.shape[1] for name, one in found.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            faults.found.append(FieldError(where, "differ in length", told, "one length"))
        elif not any(lengths.values()):
            faults.add(where, "has no rows", "at least one row")
        faults.raise_if_any()
        count = max(lengths.values())
        for name in self.features.keys() - found.keys():
            found[name] = self.encoder.feature(name, [None] * count)
        matrix = np.concatenate([found[name] for name in self.names]).T
        for name in self.names if text is None else ():
            texts.setdefault(name, [encode([None] * count)[1:-1]])
        written = _object_of_lists(texts) if text is None else text
        return Rows(count, written, Form.COLUMNS, None, matrix)

    def fit(
        self,
        given: Mapping[str, Sequence[Any]],
        count: int,
        path_of: Callable[[str, int], str],
        faults: Faults,
    ) -> Columns:
        """Check columns of plain values that another protocol gave, cast where that is needed.

        Args:
            given: Values by feature; of one that is absent, all are missing.
            count: How many rows.
            path_of: Names the place of one value, from the name of its feature and its row.
            faults: Takes what is wrong.

        Returns:
            Columns as ``rows`` takes them.
        """
        checked = []
        for name, feature in self.features.items():
            values = given.get(name, [None] * count)
            try:
                values = msgspec.convert(values, self._lists[name])
                if feature.is_time:
                    check_times(values, feature)
            except (msgspec.ValidationError, ValueError):
                paths = (path_of(name, row) for row in range(count))
                values = self._explain(values, feature, paths, faults, lenient=True)
            checked.append(values)
        return checked

    def rows(self, parts: Iterable[Columns]) -> Rows:
        """Join columns of allowed values, and write them for the prediction log."""
        texts: dict[str, list[bytes]] = {name: [] for name in self.names}

        def written() -> Iterator[Columns]:
            for columns in filter(None, parts):
                for name, values in zip(self.names, columns, strict=True):
                    texts[name].append(encode(values)[1:-1])
                yield columns

        rows = self._joined(written(), b"", Form.COLUMNS)
        if rows.count != 1:
            return rows._replace(text=_object_of_lists(texts))
        row = {name: msgspec.Raw(b"".join(text)) for name, text in texts.items()}
        return rows._replace(text=encode(row), form=Form.ONE)

    def matrix(self, given: Sequence[Rows]) -> Matrix:
        """Encode rows together."""
        if any(one.columns is None for one in given):
            return np.concatenate(
                [one.matrix if one.matrix is not None else self.matrix([one]) for one in given]
            )
        if len(given) == 1:
            return self.encoder(given[0].columns or ())
        by_feature = zip(*(one.columns or () for one in given), strict=True)
        return self.encoder([list(chain.from_iterable(one)) for one in by_feature])

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
                columns["probabilities"] = dict(zip(self._labels.values(), by_class, strict=True))
            answer = {COLUMNS_KEY: columns, "prediction_id": prediction_id}
            return encode(answer | self._release)
        name = prediction_id.encode()
        names = [name] if rows.count == 1 else [b"%b-%d" % (name, at) for at in range(rows.count)]
        # A class stands in its template.
        slots = [one[1:-1].split(b",") for one in (chances if self._labels else [values])]
        keys = values[1:-1].split(b",") if self._labels else repeat(b"")
        templates = map(self._templates.__getitem__, keys)
        answers = map(mod, templates, zip(*slots, names, strict=True))
        return next(answers) if rows.form is Form.ONE else b"[%b]" % b",".join(answers)

    def _read(self, body: Text) -> Rows:
        if kind_of(body) == b"[":
            return self.read_list(body)
        if kind_of(body) != b"{":
            raise msgspec.DecodeError("is no object")
        found = _BY_COLUMNS.match(body)
        if found and (COLUMNS_KEY not in self.features or kind_of(body[found.end() :]) == b"{"):
            outer, faults = fields(body), Faults()
            raw = outer.pop(COLUMNS_KEY)
            _refuse_unknown(outer, (COLUMNS_KEY,), "", faults)
            faults.raise_if_any()
            if kind_of(raw) != b"{":
                allowed = f"an object with a list for each of {', '.join(self.names)}"
                raise refused(COLUMNS_KEY, "is no object", allowed, shown(value(raw)))
            return self.read_columns(fields(raw, COLUMNS_KEY), COLUMNS_KEY, raw)
        return self._read_one(body)

    def _read_one(self, body: Text) -> Rows:
        try:
            columns = self._plain_columns([self._decode_row(body)], body)
        except (msgspec.ValidationError, ValueError):
            faults = Faults()
            explained = self._explain_row(body, "", faults)
            faults.raise_if_any()
            columns = [(one,) for one in explained]
        return Rows(1, body, Form.ONE, columns)

    def _parts_of_rows(
        self, raw: Text, where: str, faults: Faults, *, lenient: bool
    ) -> Iterator[Columns]:
        start = 0
        for piece in pieces(raw, ROWS):
            try:
                columns = self._plain_columns(self._decode_rows(piece), piece)
            except (msgspec.ValidationError, ValueError) as error:
                if len(piece) > _LONGEST_EXPLAINED:
                    raise refused(where, f"does not fit: {error}", self._row_words) from None
                explained = [
                    self._explain_row(one, f"{where}[{row}]", faults, lenient=lenient)
                    for row, one in enumerate(elements(piece), start)
                ]
                columns = list(zip(*explained, strict=True))
            start += len(columns[0]) if columns else 0
            yield columns

    def _parts_of_column(
        self, name: str, raw: Text | Sequence[Any], path: str, faults: Faults, *, lenient: bool
    ) -> Iterator[Sequence[Any]]:
        start, feature = 0, self.features[name]
        parts: Iterable[Any] = pieces(raw, VALUES) if isinstance(raw, Text) else [raw]
        for part in parts:
            try:
                if isinstance(part, Text):
                    values: Sequence[Any] = self._decode_list[name](part)
                else:
                    values = msgspec.convert(part, self._lists[name])
                if feature.is_time:
                    check_times(values, feature)
            except (msgspec.ValidationError, ValueError):
                given = list(map(value, elements(part))) if isinstance(part, Text) else part
                paths = (f"{path}[{row}]" for row in range(start, start + len(given)))
                values = self._explain(given, feature, paths, faults, lenient=lenient)
            start += len(values)
            yield values

    def _joined(self, parts: Iterable[Columns], text: Text, form: Form) -> Rows:
        """One part stays as it is, to be encoded with others' rows; of many each is encoded."""
        count, first = 0, None
        encoded: list[Matrix] = []
        for columns in parts:
            count += len(columns[0]) if columns else 0
            if first is None:
                first = columns
                continue
            if not encoded:
                encoded.append(self.encoder(first))
            encoded.append(self.encoder(columns))
        if encoded:
            return Rows(count, text, form, None, np.concatenate(encoded))
        return Rows(count, text, form, first)

    def _plain_columns(self, rows: Sequence[Any], text: Text) -> Columns:
        """The columns of rows that were decoded from a text.

        Raises:
            ValueError: A name is there more than once, or a time is not allowed.
        """
        columns: list[Sequence[Any]] = list(zip(*map(_values_of, rows), strict=True))
        if not columns:
            return columns
        absent = 0
        for place in self._optional:
            column = columns[place]
            if UNSET in column:
                absent += column.count(UNSET)
                columns[place] = [None if one is UNSET else one for one in column]
        texts = sum(len(columns[place]) - columns[place].count(None) for place in self._texts)
        names = len(rows) * len(columns) - absent
        if 2 * (names + texts) != quotes_in(text):
            raise ValueError("a name is given more than once")
        for place, feature in self._times:
            check_times(columns[place], feature)
        return columns

    def _explain_row(
        self, raw: Text, path: str, faults: Faults, *, lenient: bool = False
    ) -> list[Any]:
        if kind_of(raw) != b"{":
            faults.add(path, "is no object", self._row_words, value(raw))
            return [None] * len(self.names)
        given = {name: value(one) for name, one in fields(raw, path).items()}
        if lenient:
            known = given.keys() & self.features.keys()
            given = {name: _cast(given[name], self.features[name]) for name in known}
        found = check_fields(given, self.features, faults, path, self._precision)
        return [found.get(name) for name in self.names]

    def _explain(
        self,
        values: Iterable[Any],
        feature: Feature,
        paths: Iterable[str],
        faults: Faults,
        *,
        lenient: bool,
    ) -> Sequence[Any]:
        found = []
        for given, path in zip(values, paths, strict=True):
            one = _cast(given, feature) if lenient else given
            message = fault(one, feature, self._precision)
            if message is not None:
                faults.add(path, message, describe(feature), given)
            found.append(_plain(one, feature) if message is None else None)
        return found

    def _template(self, code: int | None, *, has_probabilities: bool) -> bytes:
        """The answer to a row, with slots for its probabilities or number and for its id."""
        answer: dict[str, Any] = {self._name: _SLOT}
        if code is not None:
            answer = {self._name: self._values[code], "label": self._labels[code]}
        if has_probabilities:
            answer["probabilities"] = dict.fromkeys(self._labels.values(), _SLOT)
        answer["prediction_id"] = msgspec.Raw(b'"\x00"')
        return encode(answer | self._release).replace(b"%", b"%%").replace(b"\x00", b"%b")


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
        The values that are allowed; null for what was left out and may be missing.
    """
    prefix = f"{path}." if path else ""
    found = {}
    for name, feature in features.items():
        one = given.get(name, _ABSENT)
        if one is not _ABSENT:
            message = fault(one, feature, precision)
            if message is None:
                found[name] = _plain(one, feature)
            else:
                faults.add(prefix + name, message, describe(feature), one)
        elif name in may_lack:
            continue
        elif feature.is_optional:
            found[name] = None
        else:
            faults.add(prefix + name, "is missing", describe(feature))
    _refuse_unknown(given, features, prefix, faults)
    return found


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


def _object_of_lists(texts: Mapping[str, Sequence[bytes]]) -> bytes:
    lists = {name: msgspec.Raw(b"[%b]" % b",".join(parts)) for name, parts in texts.items()}
    return encode(lists)


def _refuse_unknown(
    given: Mapping[str, Any], known: Iterable[str], prefix: str, faults: Faults
) -> None:
    names = dict.fromkeys(known)
    for name, one in given.items():
        if name not in names:
            shown_value = value(one) if isinstance(one, memoryview) else one
            faults.add(prefix + name, "is an unknown field", ", ".join(names), shown_value)


def _plain(given: Any, feature: Feature) -> Any:
    """An allowed value in the type that the table holds."""
    if given is None:
        return None
    if feature.has_integer_categories:
        return int(given)
    return float(given) if feature.is_number else given


def _row_type(types: Mapping[str, Any], features: Mapping[str, Feature]) -> Any:
    """The type of a row in JSON, whose fields are in the order of the contract."""
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


def _refuse(_: Text) -> Any:
    """Msgspec has no fields with names that JSON escapes: then each value is looked at."""
    raise msgspec.ValidationError("a name that JSON escapes")


def _is_text(feature: Feature) -> bool:
    """Whether its values have quotes in JSON."""
    return feature.is_time or (feature.type == "category" and not feature.has_integer_categories)


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
