"""Reads the rows of ``POST /predict`` by a release's contract.

A body is one row as an object, a list of such rows, or ``{"columns": {feature: [values]}}``.

There are two ways to the same result. The short way lets msgspec decode and check a body that is
right, at the speed of its parser. Whatever it refuses goes the long way, which finds every error
and says for each where it is, what was given and what is allowed.
"""

import re
from enum import Enum
from itertools import chain
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.release import Precision
from mlops_for_mle.serving.formats.documents import parse_json
from mlops_for_mle.serving.formats.feature_checks import (
    Faults,
    FeatureChecks,
    Matrix,
    describe,
    plain,
)

COLUMNS_KEY = "columns"

_REFUSALS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_as_tuple = msgspec.structs.astuple


class RowsForm(Enum):
    """How rows were given, which is how they are answered."""

    ONE = "one"
    LIST = "list"
    COLUMNS = "columns"


class GivenRows(NamedTuple):
    """The rows of a request.

    Attributes:
        rows: As the contract's encoding gives them.
        form: How they were given.
        given: Their plain values; None where the matrix holds them.
    """

    rows: Matrix
    form: RowsForm
    given: list[list[Any]] | None = None


class RowReader:
    """Turns bodies into rows, in the order of the contract.

    Only contracts of plain numbers have the short way.
    """

    def __init__(self, contract: Contract, precision: Precision) -> None:
        """Prepare for the rows of a contract and a model that computes in this precision."""
        self.checks = FeatureChecks(contract, precision)
        self._features = contract.features
        self._width = len(contract.features)
        self._are_plain = self.checks.are_plain
        self._quotes_of_a_row = 2 * self._width
        # msgspec knows no fields with names that JSON escapes.
        self._has_short_way = self._are_plain and not any(map(_ESCAPED.search, contract.features))
        if self._has_short_way:
            row, columns = self._types()
            self._row_decoder = msgspec.json.Decoder(row)
            self._rows_decoder = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
            self._columns_decoder = msgspec.json.Decoder(columns)

    def read(self, body: bytes) -> GivenRows:
        """Read the rows of a body.

        Raises:
            ProblemError: 422, the body holds no such rows; names every field that is wrong.
        """
        if not self._has_short_way:
            return self.explain(parse_json(body))
        # msgspec takes the last of equal keys. A body of numbers has quotes only around its
        # keys, so more quotes than expected send it the long way, where equal keys are found.
        quotes = body.count(b'"')
        try:
            if quotes == self._quotes_of_a_row and body[:1] == b"{":
                row = self._row_decoder.decode(body)
                return GivenRows(np.array((_as_tuple(row),), np.float64), RowsForm.ONE)
            if quotes == self._quotes_of_a_row + 2:
                columns = _as_tuple(getattr(self._columns_decoder.decode(body), COLUMNS_KEY))
                count = len(columns[0])
                if count and all(len(column) == count for column in columns):
                    flat = np.fromiter(
                        chain.from_iterable(columns), np.float64, count * len(columns)
                    )
                    return GivenRows(flat.reshape(-1, count).T, RowsForm.COLUMNS)
            elif quotes and quotes % self._quotes_of_a_row == 0:
                rows = self._rows_decoder.decode(body)
                if len(rows) * self._quotes_of_a_row == quotes:
                    return GivenRows(self._matrix(rows), RowsForm.LIST)
        except _REFUSALS:
            pass
        return self.explain(parse_json(body))

    def explain(self, document: Any) -> GivenRows:
        """Read the rows of a parsed body, with a reason for everything that is wrong.

        Raises:
            ProblemError: 422.
        """
        faults = Faults()
        if isinstance(document, list):
            rows = self._explain_list(document, faults)
            form = RowsForm.LIST
        elif self._has_columns(document):
            rows = self._explain_columns(document[COLUMNS_KEY], faults)
            form = RowsForm.COLUMNS
        else:
            rows = [self._explain_row(document, "", faults)]
            form = RowsForm.ONE
        faults.raise_if_any()
        read = self.checks.read_rows(rows)
        return GivenRows(read.matrix, form, read.given)

    def _has_columns(self, document: Any) -> bool:
        if not isinstance(document, dict) or list(document) != [COLUMNS_KEY]:
            return False
        return COLUMNS_KEY not in self._features or isinstance(document[COLUMNS_KEY], dict)

    def _explain_list(self, document: list[Any], faults: Faults) -> list[list[Any]]:
        if not document:
            faults.add("", "has no rows", document, "at least one row")
        return [self._explain_row(row, f"[{index}]", faults) for index, row in enumerate(document)]

    def _explain_row(self, row: Any, path: str, faults: Faults) -> list[Any]:
        if not isinstance(row, dict):
            faults.add(path, "is no object", row, f"an object with {', '.join(self._features)}")
            return []
        prefix = f"{path}." if path else ""
        values: list[Any] = []
        for name, feature in self._features.items():
            if name not in row:
                if feature.is_optional:
                    values.append(None)
                else:
                    faults.add_missing(prefix + name, "is missing", describe(feature))
                continue
            message = self.checks.fault(row[name], feature)
            if message is not None:
                faults.add(prefix + name, message, row[name], describe(feature))
                continue
            values.append(self._plain(row[name], feature))
        self._refuse_unknown(row, prefix, faults)
        return values

    def _explain_columns(self, columns: Any, faults: Faults) -> list[list[Any]]:
        if not isinstance(columns, dict):
            allowed = f"an object with a list for each of {', '.join(self._features)}"
            faults.add(COLUMNS_KEY, "is no object", columns, allowed)
            return []
        values: dict[str, list[Any]] = {}
        for name, feature in self._features.items():
            path = f"{COLUMNS_KEY}.{name}"
            allowed = f"a list in which each is {describe(feature)}"
            if name not in columns:
                if feature.is_optional:
                    continue
                faults.add_missing(path, "is missing", allowed)
            elif not isinstance(columns[name], list):
                faults.add(path, "is no list", columns[name], allowed)
            else:
                values[name] = columns[name]
                for index, value in enumerate(columns[name]):
                    message = self.checks.fault(value, feature)
                    if message is not None:
                        faults.add(f"{path}[{index}]", message, value, describe(feature))
        self._refuse_unknown(columns, f"{COLUMNS_KEY}.", faults)
        lengths = {name: len(column) for name, column in values.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            faults.add_missing(COLUMNS_KEY, "differ in length", "lists of one length", found)
        elif lengths and not any(lengths.values()):
            faults.add_missing(COLUMNS_KEY, "has no rows", "at least one row")
        faults.raise_if_any()
        if not values:
            faults.add(COLUMNS_KEY, "has no column", columns, "at least one list")
            faults.raise_if_any()
        count = next(iter(lengths.values()))
        complete = [
            [self._plain(value, feature) for value in values[name]]
            if name in values
            else [None] * count
            for name, feature in self._features.items()
        ]
        return [list(row) for row in zip(*complete, strict=True)]

    def _plain(self, value: Any, feature: Feature) -> Any:
        return float(value) if self._are_plain else plain(value, feature)

    def _refuse_unknown(self, given: dict[str, Any], prefix: str, faults: Faults) -> None:
        if given.keys() <= self._features.keys():
            return
        allowed = ", ".join(self._features)
        for name, value in given.items():
            if name not in self._features:
                faults.add(prefix + name[:80], "is an unknown field", value, allowed)

    def _matrix(self, rows: list[Any]) -> Matrix:
        values = chain.from_iterable(map(_as_tuple, rows))
        size = len(rows) * self._width
        return np.fromiter(values, np.float64, size).reshape(-1, self._width)

    def _types(self) -> tuple[type[msgspec.Struct], type[msgspec.Struct]]:
        """The types of a row and of columns."""
        values: list[tuple[str, Any]] = []
        lists: list[tuple[str, Any]] = []
        names = {}
        for index, (name, feature) in enumerate(self._features.items()):
            lower, upper = self.checks.bounds(feature)
            step = 1.0 if feature.type == "integer" else None
            value = Annotated[float, msgspec.Meta(ge=lower, le=upper, multiple_of=step)]
            values.append((f"field_{index}", value))
            lists.append((f"field_{index}", list[value]))
            names[f"field_{index}"] = name
        row = msgspec.defstruct("Row", values, rename=names, forbid_unknown_fields=True, gc=False)
        inner = msgspec.defstruct("Columns", lists, rename=names, forbid_unknown_fields=True)
        outer = msgspec.defstruct("ByColumns", [(COLUMNS_KEY, inner)], forbid_unknown_fields=True)
        return row, outer
