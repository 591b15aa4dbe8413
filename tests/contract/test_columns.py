import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.columns import as_json, check_columns, frame_digest, read_column
from mlops_for_mle.contract.notation import Notation, NumberFormat

NUMBERS = st.lists(st.floats(allow_nan=True), min_size=1, max_size=12)
TEXTS = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1)


def test_every_fault_of_a_row_is_told_with_what_was_found_and_what_is_allowed():
    features = {
        "width": Feature(minimum=0, maximum=10),
        "count": Feature(type="integer", missing="mean"),
        "plan": Feature(type="category", categories=("a", "b")),
        "since": Feature(type="date"),
    }
    rows = pd.DataFrame(
        {
            "width": ["1", "11", "x", "inf"],
            "count": ["", "2.5", "3", "9007199254740993"],
            "plan": ["a", "b", "c", "a"],
            "since": ["2026-01-31", "2026-01-31", "2026-02-29", "2026-01-31 10:00"],
        }
    )

    read, faults = check_columns(rows, features)

    assert len(read) == 1
    assert faults == {
        1: "width: is too large, found '11'; allowed is a number from 0 to 10. "
        "count: is no whole number, found '2.5'; allowed is a whole number, or null",
        2: "width: is no number, found 'x'; allowed is a number from 0 to 10. "
        'plan: is no known category, found \'c\'; allowed is one of "a", "b". '
        "since: is no date, found '2026-02-29'; allowed is a date such as 2026-01-31",
        3: "width: is not finite, found 'inf'; allowed is a number from 0 to 10. "
        "count: is too large, found '9007199254740993'; allowed is a whole number, or null. "
        "since: has a time of day, found '2026-01-31 10:00'; allowed is a date such as 2026-01-31",
    }


def test_case_is_ignored_where_that_is_said():
    plan = Feature(type="category", categories=("pro", "1"), missing="separate")

    for raw, expected in ((["PRO", "1"], ["pro", "1"]), ([1, None], ["1", None])):
        rows = pd.DataFrame({"plan": raw})
        read, _ = check_columns(rows, {"plan": plan}, Notation(ignore_case=("plan",)))
        assert read["plan"].astype(object).where(read["plan"].notna(), None).tolist() == expected


@pytest.mark.parametrize("kind", ["float", "boolean", "date", "category"])
@pytest.mark.parametrize("bad", [b"\xff", "\ud800", ["-"]])
def test_a_value_that_is_no_text_or_in_no_encoding_costs_its_own_row(kind, bad):
    good = {"float": b"2", "boolean": "yes", "date": b"2026-01-31", "category": "하나".encode()}
    facts = {"categories": ("하나",)} if kind == "category" else {}
    rows = pd.DataFrame({"x": pd.Series([bad, good[kind], b"-"], dtype=object)})
    features = {"x": Feature.model_validate({"type": kind, "missing": "most_frequent", **facts})}

    read, faults = check_columns(rows, features, Notation(missing_marks={"x": ("-",)}))

    assert list(faults) == [0]
    assert read["x"].notna().tolist() == [True, False]
    assert len(frame_digest(rows)) == 64


def test_numbers_that_have_a_type_are_not_read_in_the_notation_of_texts():
    raw = pd.Series([Decimal("1.500"), None])
    read = read_column(raw, Feature(), number_format=NumberFormat(decimal=",", thousands="."))
    assert read.dropna().tolist() == [1.5]


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        ("timestamp", "2026-01-31T09:00:00+09:00", "2026-01-31"),
        ("timestamp", "2026-01-31T00:00:00.1234567Z", "2026-01-31T00:00:00.123456"),
        ("timestamp", " 2026-01-31", "2026-01-31"),
        ("timestamp", "0001-01-01", "0001-01-01"),
        ("timestamp", "now", None),
        ("timestamp", "9999-12-31T23:00-10:00", None),
        ("boolean", "Yes", True),
        ("boolean", " 0.0", False),
        ("boolean", "2", None),
    ],
)
def test_text_is_read_as_times_in_utc_and_as_booleans(kind, raw, expected):
    (found,) = read_column(pd.Series([raw]), Feature(type=kind)).astype(object)

    if expected is None:
        assert pd.isna(found)
    else:
        assert found == (pd.Timestamp(expected) if kind == "timestamp" else expected)


@given(TEXTS, NUMBERS, st.data())
def test_a_digest_is_of_the_values_whatever_their_storage(texts, numbers, data):
    as_objects, as_strings = (
        pd.DataFrame({"a": pd.Series(texts, dtype=dtype)}) for dtype in ("object", "string")
    )
    assert frame_digest(as_objects) == frame_digest(as_strings)
    place = data.draw(st.integers(0, len(numbers) - 1))
    changed = list(numbers)
    changed[place] = 1.0 if np.isnan(numbers[place]) else np.nan
    assert frame_digest(pd.DataFrame({"a": changed})) != frame_digest(pd.DataFrame({"a": numbers}))


def test_any_value_stands_as_json_that_postgres_takes():
    value = {
        "a\0": [float("nan"), Decimal("1.50"), Decimal("Infinity"), "\ud800", None, True],
        "t": pd.Timestamp("2026-01-31"),
    }
    expected = '{"a�": ["nan", "1.50", "Infinity", "?", null, true], "t": "2026-01-31 00:00:00"}'
    assert as_json(value) == expected
    nested: Any = "within"
    for _ in range(5_000):
        nested = [nested]
    assert json.loads(as_json({"deep": nested, "x": 1}))["x"] == 1
