"""Which columns a model should not be given: identifiers, leaks of the target, constants."""

import re
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract.model import MAXIMUM_CATEGORIES
from mlops_for_mle.contract_inference.column import Column

_FEWEST_ROWS = 20
_IDENTIFIER_WORDS = frozenset(
    {"id", "uuid", "guid", "key", "no", "nr", "num", "number", "seq", "index", "idx", "row", "pk"}
)
_IDENTIFIER_ENDINGS = ("번호", "아이디", "식별자", "일련번호", "고유번호")
_TIME_NAMES = re.compile(
    r"(event|created|observed|recorded|logged|measured|inserted)?[ _]?(timestamp|datetime|time|at)"
    r"|(생성|관측|수집|기록|등록|측정)[ _]?(일시|시각)|일시|타임스탬프",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# Beyond this, a single column tells the target better than honest data do.
_LEAKING_SHARE = 0.999
_LEAKING_CORRELATION = 0.9999


def is_named_as_identifier(name: str) -> bool:
    """Whether the name says that it numbers rows or the things that they are about."""
    words = {word.lower() for word in _WORDS.findall(name)}
    return bool(words & _IDENTIFIER_WORDS) or name.rstrip().endswith(_IDENTIFIER_ENDINGS)


def is_candidate_key(column: Column) -> bool:
    """Whether each row has a value of its own that could name the row."""
    return (
        column.kind in {"integer", "text"}
        and column.problem is None
        and column.missing_count == 0
        and column.distinct_count == column.row_count
    )


def identifier_reason(column: Column) -> str | None:
    """Why a column identifies rows rather than describing them; None where it does not.

    Few rows say nothing: twenty different values are usual in twenty rows.
    """
    present, distinct = len(column.present), column.distinct_count
    if column.kind not in {"integer", "text"} or present < _FEWEST_ROWS:
        return None
    is_named = is_named_as_identifier(column.name)
    all_differ = f"has a different value in each of {present:,} rows, so it is an identifier"
    if column.kind == "text":
        if distinct == present:
            return all_differ
        if distinct > present / 2:
            return (
                f"has {distinct:,} different values in {present:,} rows, so it is an identifier "
                "or free text"
            )
    elif distinct == present:
        is_consecutive = column.present.max() - column.present.min() + 1 == present
        if is_named or (is_consecutive and column.present.is_monotonic_increasing):
            return all_differ
    if is_named and distinct > max(100, present / 50):
        return (
            f"is named like an identifier and has {distinct:,} different values in {present:,} rows"
        )
    return None


def many_categories_reason(column: Column) -> str | None:
    """Why a text column has too many different values for categories; None where it has not."""
    if column.kind != "text" or column.distinct_count <= MAXIMUM_CATEGORIES:
        return None
    return (
        f"has {column.distinct_count:,} categories, at most {MAXIMUM_CATEGORIES:,} are allowed; "
        "group them into fewer to use it"
    )


def useless_reason(column: Column) -> str | None:
    """Why a column tells nothing at all; None where it may."""
    if column.kind == "empty":
        return "is empty in every row"
    if column.kind == "other":
        return f"holds values of type {column.values.dtype}, which no contract can hold"
    if column.distinct_count == 1 and column.missing_count == 0:
        return f"has the same value in every row ({column.counts.index[0]})"
    return None


def leak_reason(column: Column, target: Column, is_regression: bool) -> str | None:
    """Why a column may hold what is only known afterwards; None where nothing says so."""
    rows = pd.DataFrame({"value": column.values, "target": target.values}).dropna(subset="target")
    if len(rows) < _FEWEST_ROWS:
        return None
    if is_regression:
        if column.is_number and _follows(rows):
            return "follows the target almost exactly, so it may be computed from it"
        return None
    if _is_missing_by_class(rows):
        return "is missing or not depending on the target, so it may only be known afterwards"
    known = rows.dropna()
    if len(known) < _FEWEST_ROWS or len(known) < len(rows) / 2:
        return None
    if column.is_number or column.is_time:
        tells = _splits_classes(known)
    else:
        tells = column.distinct_count <= len(known) / 10 and _determines(known)
    return "alone tells the target, so it may only be known afterwards" if tells else None


def is_named_as_time(column: Column) -> bool:
    """Whether the name says that it is the time at which the row was observed."""
    return column.is_time and _TIME_NAMES.fullmatch(column.name) is not None


def _follows(rows: pd.DataFrame) -> bool:
    known = rows.dropna()
    if len(known) < _FEWEST_ROWS or known["value"].nunique() < _FEWEST_ROWS:
        return False
    correlation = np.corrcoef(known["value"].to_numpy(float), known["target"].to_numpy(float))
    return bool(abs(correlation[0, 1]) >= _LEAKING_CORRELATION)


def _is_missing_by_class(rows: pd.DataFrame) -> bool:
    is_missing = rows["value"].isna()
    if not _FEWEST_ROWS / 4 <= is_missing.sum() <= len(rows) - _FEWEST_ROWS / 4:
        return False
    return _purity(is_missing, rows["target"]) >= _LEAKING_SHARE


def _determines(known: pd.DataFrame) -> bool:
    return _purity(known["value"], known["target"]) >= _LEAKING_SHARE


def _purity(values: "pd.Series[Any]", target: "pd.Series[Any]") -> float:
    """The share of rows whose target is the most frequent one among rows of equal value.

    Nothing where knowing the value helps little: the frequent class alone would do.
    """
    counts = pd.crosstab(values.to_numpy(), target.to_numpy()).to_numpy()
    right = float(counts.max(axis=1).sum()) / len(target)
    by_chance = float(counts.sum(axis=0).max()) / len(target)
    return right if by_chance < 1 - 2 * (1 - _LEAKING_SHARE) else 0.0


def _splits_classes(known: pd.DataFrame) -> bool:
    """Whether each class has a range of the values for itself."""
    classes = known.groupby("target", observed=True)["value"].agg(["min", "max", "size"])
    classes = classes.sort_values("min")
    lower, upper = classes["min"].to_numpy(), classes["max"].to_numpy()
    is_frequent = len(classes) >= 2 and classes["size"].min() >= _FEWEST_ROWS / 4
    return bool(is_frequent and (lower[1:] > upper[:-1]).all())
