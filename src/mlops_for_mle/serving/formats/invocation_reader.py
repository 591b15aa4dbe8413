"""Reads the rows of MLflow's scoring protocol, as ``mlflow models serve`` does for the same model.

Facts about the accepted forms are those of ``mlflow.pyfunc.scoring_server`` in MLflow 3: columns
that the model does not know are ignored, text that is a number and true or false are cast by the
signature, columns are found by their names and never by their positions.
"""

import csv
import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.release import Precision
from mlops_for_mle.serving.formats.documents import parse_json, refuse_repeated_keys
from mlops_for_mle.serving.formats.feature_checks import (
    Faults,
    FeatureChecks,
    ReadRows,
    describe,
    plain,
)
from mlops_for_mle.serving.formats.value_casts import cast
from mlops_for_mle.serving.http.problems import FieldError, unprocessable

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")

# Names the place of one value, from the name of its feature and its row.
_PathOf = Callable[[str, int], str]

_MISSING = object()


class InvocationReader:
    """Turns bodies of ``POST /invocations`` into matrices of rows by features."""

    def __init__(self, contract: Contract, precision: Precision) -> None:
        """Prepare for the rows of a contract and a model that computes in this precision."""
        self._features = contract.features
        self._names = contract.feature_names
        self._checks = FeatureChecks(contract, precision)

    def read_json(self, body: bytes) -> ReadRows:
        """Read a body of JSON.

        Raises:
            ProblemError: 422, it is in none of the forms or its values do not fit the contract.
        """
        try:
            document = msgspec.json.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            document = None
        # msgspec takes the last of equal keys, which leaves the quotes of the others unexplained.
        if document is None or _quotes_of(document) != body.count(b'"'):
            document = parse_json(body)
            refuse_repeated_keys(document)
        name = _format_of(document)
        given = document[name]
        if name == "dataframe_split":
            return self._read_split(given)
        if name == "dataframe_records":
            if not isinstance(given, list):
                raise _refused(name, "is no list", "a list of objects, one a row")
            return self._read_records(given, name)
        if isinstance(given, dict):
            return self._read_columns(given, name)
        if isinstance(given, list):
            return self._read_records(given, name)
        raise _refused(name, "is neither a list nor an object", "rows or columns with names")

    def read_csv(self, body: bytes) -> ReadRows:
        """Read a body of CSV whose first line names the columns.

        Raises:
            ProblemError: 422, it is no such CSV or its values do not fit the contract.
        """
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise unprocessable(
                [FieldError("", "the body is not UTF-8", None, "CSV in UTF-8")]
            ) from None
        try:
            lines = [
                line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line
            ]
        except csv.Error as error:
            raise unprocessable([FieldError("", f"is no CSV: {error}", None, "CSV")]) from None
        if not lines:
            raise unprocessable([FieldError("", "the body is empty", None, "CSV with a header")])
        return self._read_table(lines[0], lines[1:], "rows")

    def _read_split(self, given: Any) -> ReadRows:
        name = "dataframe_split"
        if not isinstance(given, dict):
            raise _refused(name, "is no object", "an object with columns and data")
        unknown = given.keys() - {"columns", "data", "index"}
        if "data" not in given or unknown:
            found = ", ".join(sorted(given)) or "nothing"
            raise unprocessable(
                [FieldError(name, "has other fields", found, "columns, data and optionally index")]
            )
        columns, data = given.get("columns"), given["data"]
        if isinstance(data, dict):
            return self._read_columns(data, f"{name}.data")
        if not isinstance(data, list):
            raise _refused(f"{name}.data", "is no list", "a list of rows")
        index = given.get("index")
        if index is not None and (not isinstance(index, list) or len(index) != len(data)):
            raise _refused(f"{name}.index", "does not fit data", "one entry for each row of data")
        if data and all(isinstance(row, dict) for row in data):
            return self._read_records(data, f"{name}.data")
        if not isinstance(columns, list) or not all(isinstance(one, str) for one in columns):
            raise _refused(f"{name}.columns", "is no list of names", ", ".join(self._names))
        return self._read_table(columns, data, f"{name}.data")

    def _read_table(self, header: list[str], rows: list[Any], where: str) -> ReadRows:
        width = len(header)
        faults = Faults()
        for index, row in enumerate(rows):
            if not isinstance(row, list):
                faults.add(f"{where}[{index}]", "is no list", row, "one value a column")
            elif len(row) != width:
                faults.add(f"{where}[{index}]", "has another length", row, f"{width} values")
        for name in self._names:
            if header.count(name) > 1:
                faults.add_missing(f"columns.{name}", "is given more than once", "each name once")
        faults.raise_if_any()
        positions = {name: position for position, name in enumerate(header)}
        columns = {
            name: [row[positions[name]] for row in rows]
            for name in self._names
            if name in positions
        }
        return self._matrix(columns, len(rows), where, lambda name, row: f"{where}[{row}].{name}")

    def _read_records(self, records: list[Any], where: str) -> ReadRows:
        faults = Faults()
        for index, record in enumerate(records):
            if not isinstance(record, dict):
                allowed = f"an object with {', '.join(self._names)}"
                faults.add(f"{where}[{index}]", "is no object", record, allowed)
        faults.raise_if_any()
        columns = {name: [one.get(name, _MISSING) for one in records] for name in self._names}
        return self._matrix(
            columns, len(records), where, lambda name, row: f"{where}[{row}].{name}"
        )

    def _read_columns(self, columns: Mapping[str, Any], where: str) -> ReadRows:
        known = {name: columns[name] for name in self._names if name in columns}
        if known and not any(isinstance(column, list) for column in known.values()):
            known = {name: [value] for name, value in known.items()}
        faults = Faults()
        for name, column in known.items():
            if not isinstance(column, list):
                faults.add(f"{where}.{name}", "is no list", column, "a list, one value a row")
        faults.raise_if_any()
        lengths = {name: len(column) for name, column in known.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise unprocessable([FieldError(where, "differ in length", found, "one length")])
        count = next(iter(lengths.values()), 0)
        return self._matrix(known, count, where, lambda name, row: f"{where}.{name}[{row}]")

    def _matrix(
        self, columns: Mapping[str, list[Any]], count: int, where: str, path_of: _PathOf
    ) -> ReadRows:
        faults = Faults()
        for name in self._names:
            if name not in columns and not self._features[name].is_optional:
                allowed = describe(self._features[name])
                faults.add_missing(f"{where}.{name}", "is missing", allowed)
        faults.raise_if_any()
        if not count:
            raise _refused(where, "has no rows", "at least one row")
        if not self._checks.are_plain:
            return self._read_values(columns, count, path_of)
        try:
            rows = np.array([_cast_column(columns[name]) for name in self._names]).T
        except (ValueError, OverflowError):
            pass
        else:
            if self._checks.accept(rows):
                return ReadRows(rows)
        for name, feature in self._features.items():
            for index, value in enumerate(columns[name]):
                self._explain(value, feature, partial(path_of, name, index), faults)
        faults.raise_if_any()
        return ReadRows(
            np.array(
                [[float(value) for value in columns[name]] for name in self._names], np.float64
            ).T
        )

    def _read_values(
        self, columns: Mapping[str, list[Any]], count: int, path_of: _PathOf
    ) -> ReadRows:
        """Rows of a contract that has more than plain numbers."""
        faults = Faults()
        complete: list[list[Any]] = []
        for name, feature in self._features.items():
            values = [
                None if one is _MISSING else cast(one, feature)
                for one in columns.get(name, [None] * count)
            ]
            for index, value in enumerate(values):
                message = self._checks.fault(value, feature)
                if message is not None:
                    faults.add(path_of(name, index), message, value, describe(feature))
            complete.append(values)
        faults.raise_if_any()
        features = self._features.values()
        rows = [
            [plain(value, feature) for value, feature in zip(row, features, strict=True)]
            for row in zip(*complete, strict=True)
        ]
        return self._checks.read_rows(rows)

    def _explain(
        self, value: Any, feature: Feature, path: Callable[[], str], faults: Faults
    ) -> None:
        allowed = describe(feature)
        if value is _MISSING:
            faults.add_missing(path(), "is missing", allowed)
            return
        number = value
        if isinstance(value, bool | str):
            try:
                number = float(value)
            except ValueError:
                faults.add(path(), "is no number", value, allowed)
                return
        message = self._checks.fault(number, feature)
        if message is not None:
            faults.add(path(), message, value, allowed)


def _cast_column(column: list[Any]) -> npt.NDArray[np.float64]:
    """A column as numbers.

    Raises:
        ValueError: Something in it is no number.
        OverflowError: An integer in it is too large.
    """
    kinds = set(map(type, column))
    if kinds <= {float, int, bool}:
        return np.array(column, np.float64)
    if kinds == {str}:
        return np.array(list(map(float, column)), np.float64)
    raise ValueError


def _quotes_of(document: Any) -> int:
    """How many quotes the usual bodies have around keys and names of columns; others have more."""
    if not isinstance(document, dict):
        return 0
    strings = len(document)
    for given in document.values():
        if isinstance(given, dict):
            columns = given.get("columns")
            strings += len(given)
            if isinstance(columns, list):
                strings += sum(isinstance(one, str) for one in columns)
        elif isinstance(given, list) and set(map(type, given)) == {dict}:
            strings += sum(map(len, given))
    return 2 * strings


def _format_of(document: Any) -> str:
    """The one form that a body is in.

    Raises:
        ProblemError: 422, it is in none or in several, or has parameters.
    """
    allowed = f"an object with exactly one of {', '.join(FORMATS)}"
    if not isinstance(document, dict):
        raise _refused("", "the body is no object", allowed)
    found = [name for name in FORMATS if name in document]
    if len(found) != 1:
        given = ", ".join(str(name) for name in list(document)[:5]) or "nothing"
        raise unprocessable([FieldError("", "the body has not one form", given, allowed)])
    if document.get("params"):
        raise _refused("params", "is refused: the model takes no parameters", "no params")
    return found[0]


def _refused(path: str, message: str, allowed: str) -> Exception:
    return unprocessable([FieldError(path, message, None, allowed)])
