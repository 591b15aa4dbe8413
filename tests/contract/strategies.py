"""Contracts of every kind, and values that they allow or not, as Hypothesis draws them."""

from typing import Any, get_args

from hypothesis import strategies as st

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.model import MISSING_POLICIES, NUMBER_TYPES, TIME_TYPES, FeatureType

_SYSTEM_COLUMNS = {"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"}
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=15).filter(
    lambda name: name not in _SYSTEM_COLUMNS
) | st.sampled_from(["select", "구독 기간", 'say "hi"', "it's", "a.b", "%s", ":x", "UPPER", "null"])
COLUMNS = st.lists(NAMES, min_size=3, max_size=8, unique=True)
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9).filter(
    lambda value: value and value == value.strip()
)
BOUNDS = st.none() | st.floats(-1e6, 1e6)


@st.composite
def features(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(get_args(FeatureType)))
    feature: dict[str, Any] = {
        "type": kind,
        "unit": draw(st.none() | st.text(max_size=5)),
        "missing": draw(
            st.sampled_from([one for one in MISSING_POLICIES[kind] if one != "constant"])
        ),
    }
    if kind in NUMBER_TYPES:
        low, high = draw(BOUNDS), draw(BOUNDS)
        if low is not None and high is not None:
            low, high = min(low, high), max(low, high) + 1
        feature |= {"minimum": low, "maximum": high}
    elif kind == "category":
        values = draw(st.sampled_from([VALUES, st.integers(-9, 9)]))
        feature["categories"] = draw(st.lists(values, min_size=1, max_size=4, unique=True))
        feature["unknown"] = draw(st.sampled_from(["reject", "other"]))
    elif kind in TIME_TYPES:
        feature["earliest"] = draw(st.none() | st.datetimes())
    return feature


@st.composite
def contracts(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(COLUMNS.filter(lambda found: not {"id", "timestamp"} & set(found)))
    target: dict[str, Any] = {"column": names[0], "response_name": "answer"}
    form = draw(st.sampled_from(["whole", "text", "regression"]))
    if form == "whole":
        values = sorted(draw(st.sets(st.integers(-99, 99), min_size=2, max_size=5)))
        target["classes"] = [{"value": value, "label": f"class {value}"} for value in values]
    elif form == "text":
        words = draw(st.lists(VALUES, min_size=2, max_size=5, unique=True))
        target["classes"] = [{"value": word} for word in words]
    else:
        target |= {"task": "regression", "minimum": draw(BOUNDS)}
    return {
        "name": draw(st.from_regex(r"[a-z][a-z0-9_]{0,47}", fullmatch=True)),
        "table": draw(NAMES),
        "features": {name: draw(features()) for name in names[1:]},
        "target": target,
    }


CONTRACTS = contracts().map(Contract.model_validate)


def allowed_values(feature: Feature) -> st.SearchStrategy[Any]:
    """Plain values that a feature allows."""
    low = feature.minimum if feature.minimum is not None else -1e9
    high = feature.maximum if feature.maximum is not None else max(low, 0) + 1e9
    first = feature.earliest
    dates = st.dates().filter(lambda one: first is None or one > first.date())
    values: dict[str, st.SearchStrategy[Any]] = {
        "float": st.floats(low, high),
        "decimal": st.floats(low, high),
        "integer": st.integers(int(low), int(high)).filter(lambda one: low <= one <= high),
        "boolean": st.booleans(),
        "category": st.sampled_from(list(feature.categories) or ["none"]),
        "date": dates.map(lambda one: one.isoformat()),
        "timestamp": dates.map(lambda one: f"{one.isoformat()}T12:30:00"),
    }
    found = values[feature.type]
    return found | st.none() if feature.is_optional else found


def any_values(feature: Feature) -> st.SearchStrategy[Any]:
    """Plain values that a feature may or may not allow."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.integers(),
        st.integers(-20, 20),
        st.text(max_size=5),
        st.sampled_from([" ", "a\x00b", "x" * 1001, "2026-01-31T10:00:00+09:00", "0001-01-01"]),
        st.datetimes().map(lambda one: one.isoformat()),
        st.dates().map(lambda one: one.isoformat()),
        allowed_values(feature),
    )
