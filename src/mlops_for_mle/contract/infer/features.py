"""What a column would say as a feature of a contract, with remarks; or that it names rows."""

import itertools
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract.infer.decide import Column, one_line, shortened
from mlops_for_mle.contract.model import LONGEST_NAME, MAXIMUM_CATEGORIES, MISSING_POLICIES
from mlops_for_mle.contract.notation import DATE_LIKE

_FEWEST_ROWS = 20
_IDENTIFIER_WORDS = r"id|uuid|guid|key|no|nr|num|number|seq|index|idx|row|pk"
_IDENTIFIER_ENDINGS = ("번호", "아이디", "식별자")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_YEARS = (1500, 2200)
# From 2001 to 2033.
_EPOCH_SECONDS = (10**9, 2 * 10**9)
_LISTED_CATEGORIES = 100
_RARE_CATEGORY_ROWS = 5
_SENTINELS = r"-99|-?9{3,5}|1900-01-01|1970-01-01|9999-12-31"
_SHARE_OF_DATES = 0.9
_MARGIN = 0.5
_MARGIN_YEARS = 10
# Every table of PostgreSQL has columns of these names.
_SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})


def described(column: Column) -> Column:
    """A column with what a contract would say of it, and a remark; or why it is no feature."""
    if reason := column.left_out or _reason_against(column):
        return replace(column, left_out=reason)
    keys: dict[str, Any] = {"type": column.kind}
    remark = ""
    if column.is_number or column.is_time:
        low, high = column.present.min(), column.present.max()
        shape = "{:%Y-%m-%d}" if column.is_time else "{:.6g}"
        ends = shape.format(low), shape.format(high)
        remark = f"seen {' to '.join(ends)}{', in UTC' * (column.kind == 'timestamp')}"
        if marks := [one for one in ends if re.fullmatch(_SENTINELS, one)]:
            remark += f"; does {' or '.join(marks)} stand for a missing value? See --missing"
    if column.is_number:
        keys |= number_range(column)
        unit = column.written.get("number_formats", {}).get("unit")
        keys |= {"unit": unit} if unit else {}
        for second, factor in (("seconds", 1), ("milliseconds", 1000)):
            if _EPOCH_SECONDS[0] <= low / factor and high / factor <= _EPOCH_SECONDS[1]:
                remark += f"; are these times, in {second} since 1970?"
    elif column.is_time:
        keys["earliest"] = f"{max(1, low.year - _MARGIN_YEARS):04d}-01-01"
        keys["latest"] = f"{min(9999, high.year + _MARGIN_YEARS):04d}-12-31"
    else:
        shown = column.counts.head(6)
        remark = ", ".join(f"{shortened(value)} {rows:,}" for value, rows in shown.items())
        rest = len(column.counts) - len(shown)
        remark += f" and {rest:,} more" * (rest > 0) + case_remark(column)
    if column.kind == "text":
        listed = column.counts.head(_LISTED_CATEGORIES)
        keys = {"type": "category", "categories": sorted(map(str, listed.index))}
        if len(listed) < len(column.counts) or int(listed.min()) < _RARE_CATEGORY_ROWS:
            keys["unknown"] = "other"
    if column.missing_count:
        preferred, allowed = ("separate", "median", "most_frequent"), MISSING_POLICIES[keys["type"]]
        keys["missing"] = next(one for one in preferred if one in allowed)
        share = 100 * column.missing_count / len(column.values)
        remark += f"; missing in {column.missing_count:,} rows ({share:.2g} %)"
    return replace(column, keys=keys, remark=remark)


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


def _reason_against(column: Column) -> str:
    """Why a column identifies rows, or is the same in all, rather than describing them.

    Few rows say nothing: twenty different values are usual in twenty rows.
    """
    present, distinct = len(column.present), len(column.counts)
    if distinct == 1 and column.missing_count == 0:
        return f"has the same value in every row ({column.counts.index[0]})"
    if column.kind not in ("integer", "text") or present < _FEWEST_ROWS:
        return ""
    # Not a number of something, such as "number of trades".
    last_word = "".join(_WORDS.findall(column.name)[-1:])
    is_named = re.fullmatch(_IDENTIFIER_WORDS, last_word, re.IGNORECASE) is not None
    is_named = is_named or column.name.endswith(_IDENTIFIER_ENDINGS)
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
    return ""


def column_names(names: Sequence[str]) -> dict[str, str]:
    """The name in Postgres for each of some distinct columns: its own wherever that is possible."""
    found: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        # Bytes are what Postgres counts; a few are for a number behind the name.
        kept = one_line(name).encode()[: LONGEST_NAME - 6].decode(errors="ignore").strip()
        is_short = kept and len(name.encode()) <= LONGEST_NAME
        found[name] = name
        if not is_short or not name.isprintable() or name in _SYSTEM_COLUMNS:
            taken = {*names, *found.values(), *_SYSTEM_COLUMNS}
            found[name] = free_name((kept or f"column_{number}",), taken)
    return found


def free_name(preferred: Sequence[str], taken: Collection[str]) -> str:
    """The first of some names that is free, else the first one with a number."""
    more = (f"{preferred[0]}_{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain(preferred, more) if one not in taken)
