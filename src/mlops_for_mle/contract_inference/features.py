"""What the contract says of a column that becomes a feature."""

import math
from dataclasses import dataclass
from typing import Any

from mlops_for_mle.contract.model import MISSING_POLICIES
from mlops_for_mle.contract_inference.column import Column

LISTED_CATEGORIES = 100
_RARE_CATEGORY_ROWS = 5
_MARGIN = 0.5
_MARGIN_YEARS = 10
# OmegaConf reads this text as "a value is missing here", and nothing can quote it.
_UNWRITABLE = "???"


@dataclass(frozen=True)
class ProposedFeature:
    """A feature of the proposal.

    Attributes:
        name: Its name in the contract.
        keys: What the contract says of it, in the order in which it is written.
        remark: What a person should know when reviewing it.
    """

    name: str
    keys: dict[str, Any]
    remark: str


def propose_feature(name: str, column: Column) -> ProposedFeature:
    """Describe a column.

    Args:
        name: Its name in the contract.
        column: Its profile; neither empty nor of a kind that no contract holds.
    """
    if column.is_number:
        keys, remark = _number(column)
    elif column.is_time:
        keys, remark = _time(column)
    elif column.kind == "boolean":
        keys, remark = {"type": "boolean"}, _occurrences(column, 2)
    else:
        keys, remark = _category(column)
    if column.missing_count:
        preferred = "median" if "median" in MISSING_POLICIES[keys["type"]] else "most_frequent"
        if "separate" in MISSING_POLICIES[keys["type"]]:
            preferred = "separate"
        keys["missing"] = preferred
        share = 100 * column.missing_count / column.row_count
        remark += f"; missing in {column.missing_count:,} rows ({share:.2g} %)"
    return ProposedFeature(name, keys, remark)


def number_range(column: Column) -> dict[str, float | int]:
    """A range with margins: half of what was seen on either side, rounded outwards.

    A side where nothing is negative (or positive) stays so, and flags of 0 and 1 stay flags.
    """
    low, high = float(column.present.min()), float(column.present.max())
    is_whole = column.kind == "integer"
    if (low, high) == (0.0, 1.0) and column.is_whole:
        return {"minimum": 0, "maximum": 1}
    span = (high - low) or abs(high) or 1.0
    lower, upper = low - _MARGIN * span, high + _MARGIN * span
    lower = 0.0 if low >= 0 > lower else _round_outwards(lower, -1)
    upper = 0.0 if high <= 0 < upper else _round_outwards(upper, 1)
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        return {}
    if is_whole and max(abs(lower), abs(upper)) < 2.0**53:
        return {"minimum": math.floor(lower), "maximum": math.ceil(upper)}
    return {"minimum": lower, "maximum": upper}


def _number(column: Column) -> tuple[dict[str, Any], str]:
    remark = f"seen {_shown(column.present.min())} to {_shown(column.present.max())}"
    if column.kind == "integer" and 2 < column.distinct_count <= 10:
        remark += f", {column.distinct_count} different; for codes without an order use category"
    return {"type": column.kind, **number_range(column)}, remark


def _time(column: Column) -> tuple[dict[str, Any], str]:
    first, last = column.present.min(), column.present.max()
    keys = {
        "type": column.kind,
        "earliest": f"{max(1, first.year - _MARGIN_YEARS):04d}-01-01",
        "latest": f"{min(9999, last.year + _MARGIN_YEARS):04d}-12-31",
    }
    return keys, f"seen {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _category(column: Column) -> tuple[dict[str, Any], str]:
    counts = column.counts[column.counts.index != _UNWRITABLE]
    listed = counts.head(LISTED_CATEGORIES)
    keys: dict[str, Any] = {"type": "category", "categories": sorted(map(str, listed.index))}
    remark = _occurrences(column, 6)
    is_partial = len(listed) < column.distinct_count
    if is_partial:
        share = 100 * int(listed.sum()) / len(column.present)
        remark += (
            f"; {column.distinct_count:,} different values, listed are those of {share:.3g} % "
            "of the rows, the model takes the rest as one"
        )
    if is_partial or int(listed.min()) < _RARE_CATEGORY_ROWS:
        keys["unknown"] = "other"
    return keys, remark


def _occurrences(column: Column, most: int) -> str:
    shown = [f"{_short(value)} {count:,}" for value, count in column.counts.head(most).items()]
    rest = column.distinct_count - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest > 0 else "")


def _round_outwards(value: float, direction: int) -> float:
    """Round to two significant digits, away from what was seen."""
    if value == 0 or not math.isfinite(value):
        return value
    exponent = math.floor(math.log10(abs(value))) - 1
    # Through text, because 10.0**-1 * 3 is not 0.3.
    scaled = value / 10.0**exponent
    digits = math.ceil(scaled - 1e-9) if direction > 0 else math.floor(scaled + 1e-9)
    return float(f"{digits}e{exponent}")


def _shown(value: float) -> str:
    return f"{value:.6g}"


def _short(value: Any, limit: int = 30) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
