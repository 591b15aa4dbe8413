"""What a column would say as a feature of a contract, with remarks; or that it names rows."""

import itertools
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract.infer.decide import Column, shortened
from mlops_for_mle.contract.model import LONGEST_NAME, MAXIMUM_CATEGORIES, MISSING_POLICIES
from mlops_for_mle.contract.notation import DATE_LIKE

_FEWEST_ROWS = 20
_IDENTIFIER_WORDS = frozenset(
    {"id", "uuid", "guid", "key", "no", "nr", "num", "number", "seq", "index", "idx", "row", "pk"}
)
_IDENTIFIER_ENDINGS = ("번호", "아이디", "식별자")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_YEARS = (1500, 2200)
# From 2001 to 2033.
_EPOCH_SECONDS = (10**9, 2 * 10**9)
_LISTED_CATEGORIES = 100
_RARE_CATEGORY_ROWS = 5
_SENTINELS = frozenset({-99999, -9999, -999, -99, 999, 9999, 99999})
_SENTINEL_DATES = frozenset({"1900-01-01", "1970-01-01", "9999-12-31"})
_SHARE_OF_DATES = 0.9
_MARGIN = 0.5
_MARGIN_YEARS = 10
_FEWEST_GAPS = 5
# Rows with and without a value fall apart by class, up to so many.
_LEAKING_SHARE = 0.999
# Every table of PostgreSQL has columns of these names.
_SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})


def describe(column: Column) -> tuple[dict[str, Any], str]:
    """What the contract says of a column, and a remark on what was seen."""
    keys: dict[str, Any] = {"type": column.kind}
    marks: list[str] = []
    if column.is_number:
        keys |= number_range(column)
        low, high = column.present.min(), column.present.max()
        if column.number_format and column.number_format.unit:
            keys["unit"] = column.number_format.unit
        remark = f"seen {low:.6g} to {high:.6g}"
        for unit, factor in (("seconds", 1), ("milliseconds", 1000)):
            if _EPOCH_SECONDS[0] <= low / factor and high / factor <= _EPOCH_SECONDS[1]:
                remark += f"; are these times, in {unit} since 1970?"
        marks = [f"{one:g}" for one in (low, high) if one in _SENTINELS]
    elif column.is_time:
        first, last = column.present.min(), column.present.max()
        keys["earliest"] = f"{max(1, first.year - _MARGIN_YEARS):04d}-01-01"
        keys["latest"] = f"{min(9999, last.year + _MARGIN_YEARS):04d}-12-31"
        remark = f"seen {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        remark += ", in UTC" if column.kind == "timestamp" else ""
        marks = sorted({f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"} & _SENTINEL_DATES)
    else:
        shown = column.counts.head(6)
        remark = ", ".join(f"{shortened(value)} {rows:,}" for value, rows in shown.items())
        rest = len(column.counts) - len(shown)
        remark += f" and {rest:,} more" if rest else ""
        remark += case_remark(column)
    if column.kind == "text":
        listed = column.counts.head(_LISTED_CATEGORIES)
        keys = {"type": "category", "categories": sorted(map(str, listed.index))}
        if len(listed) < len(column.counts) or int(listed.min()) < _RARE_CATEGORY_ROWS:
            keys["unknown"] = "other"
    if marks:
        remark += f"; does {' or '.join(marks)} stand for a missing value? See --missing"
    if column.missing_count:
        preferred = ("separate", "median", "most_frequent")
        allowed = MISSING_POLICIES[keys["type"]]
        keys["missing"] = next(one for one in preferred if one in allowed)
        share = 100 * column.missing_count / len(column.values)
        remark += f"; missing in {column.missing_count:,} rows ({share:.2g} %)"
    return keys, remark


def case_remark(column: Column) -> str:
    """Say which texts differ only by case, blanks within, or their form in Unicode."""
    if column.kind != "text":
        return ""
    texts = pd.Series(column.counts.index.map(str), dtype="str")
    alike = texts.str.normalize("NFKC").str.casefold().str.replace(r"\s", "", regex=True)
    shown = ", ".join(map(repr, texts[alike.duplicated(keep=False)].head(4)))
    return f"; {shown} may be the same: see ingestion.ignore_case" if shown else ""


def number_range(column: Column) -> dict[str, Any]:
    """A range with margins: half of what was seen on either side.

    A side where nothing is negative (or positive) stays so, and flags of 0 and 1 stay flags.
    """
    low, high = float(column.present.min()), float(column.present.max())
    if (low, high) == (0.0, 1.0) and column.is_whole:
        return {"minimum": 0, "maximum": 1}
    span = (high - low) or abs(high) or 1.0
    if not math.isfinite(2 * span):
        return {}
    digits = 1 - math.floor(math.log10(span))
    lower, upper = round(low - _MARGIN * span, digits), round(high + _MARGIN * span, digits)
    lower = max(lower, 0.0) if low >= 0 else lower
    upper = min(upper, 0.0) if low < 0 and high <= 0 else upper
    if column.kind == "integer":
        return {"minimum": math.floor(lower), "maximum": math.ceil(upper)}
    return {"minimum": lower, "maximum": upper}


def identifier_reason(column: Column) -> str | None:
    """Why a column identifies rows rather than describing them; None where it does not.

    Few rows say nothing: twenty different values are usual in twenty rows.
    """
    present, distinct = len(column.present), len(column.counts)
    if column.kind not in ("integer", "text") or present < _FEWEST_ROWS:
        return None
    # Not a number of something, such as "number of trades".
    (last_word,) = _WORDS.findall(column.name)[-1:] or [""]
    is_named = last_word.lower() in _IDENTIFIER_WORDS
    is_named = is_named or column.name.rstrip().endswith(_IDENTIFIER_ENDINGS)
    if column.kind == "text":
        is_identifier = distinct > min(present / 2, MAXIMUM_CATEGORIES)
        if is_identifier and column.present.str.contains(DATE_LIKE).mean() > _SHARE_OF_DATES:
            example = f"such as {column.present.iloc[0]!r}"
            return f"looks like dates in a form that is not read, {example}; see --date-format"
    else:
        is_counter = (np.diff(column.present.to_numpy()) == 1).all()
        is_year = column.present.between(*_YEARS).all()
        is_identifier = distinct == present and (is_named or (is_counter and not is_year))
    if is_identifier or (is_named and distinct > max(100, present / 50)):
        values = f"{distinct:,} different values in {present:,} rows"
        return f"has {values}, so it is an identifier or free text"
    return None


def are_told_by_gaps(is_missing: "pd.Series[bool]", classes: "pd.Series[Any]") -> bool:
    """Whether missing values of a feature tell the class, which no score of it shows."""
    by_class = is_missing.astype(float).groupby(classes.to_numpy())
    shares, rows = by_class.mean(), len(is_missing)
    odd_ones = (np.minimum(shares, 1 - shares) * by_class.size()).sum()
    is_enough = _FEWEST_GAPS <= is_missing.sum() <= rows - _FEWEST_GAPS
    falls_apart = shares.max() > 1 / 2 > shares.min() and odd_ones <= (1 - _LEAKING_SHARE) * rows
    return bool(is_enough and falls_apart)


def column_names(names: Sequence[str]) -> dict[str, str]:
    """The name in Postgres for each of some distinct columns: its own wherever that is possible."""
    found: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        printable = "".join(one if one.isprintable() else " " for one in name)
        # Blanks alone are legal in Postgres, but nobody could type or see them.
        is_legal = printable == name and not name.isspace() and name not in _SYSTEM_COLUMNS
        if is_legal and 0 < len(name.encode()) <= LONGEST_NAME:
            found[name] = name
            continue
        # Bytes are what Postgres counts; a few are for a number behind the name.
        kept = " ".join(printable.split()).encode()[: LONGEST_NAME - 6].decode(errors="ignore")
        taken = {*names, *found.values(), *_SYSTEM_COLUMNS}
        found[name] = free_name((kept.strip() or f"column_{number}",), taken)
    return found


def free_name(preferred: Sequence[str], taken: Collection[str]) -> str:
    """The first of some names that is free, else the first one with a number."""
    more = (f"{preferred[0]}_{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain(preferred, more) if one not in taken)
