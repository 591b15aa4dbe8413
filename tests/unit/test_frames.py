import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.frames import digest, row_groups

NUMBERS = st.lists(st.floats(allow_nan=True), min_size=1, max_size=12)
TEXTS = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), min_size=1)


@given(NUMBERS, st.integers(0, 1000))
def test_the_digest_does_not_see_the_index(values: list[float], start: int) -> None:
    rows = pd.DataFrame({"a": values})

    assert digest(rows.set_axis(range(start, start + len(values)))) == digest(rows)


@given(TEXTS)
def test_a_text_column_has_one_digest_whatever_its_storage(values: list[str | None]) -> None:
    as_objects = pd.DataFrame({"a": pd.Series(values, dtype="object")})
    as_strings = pd.DataFrame({"a": pd.Series(values, dtype="string")})

    assert digest(as_objects) == digest(as_strings)


@given(NUMBERS, st.data())
def test_one_changed_value_changes_the_digest(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    changed = list(values)
    changed[place] = 1.0 if np.isnan(values[place]) else np.nan

    assert digest(pd.DataFrame({"a": changed})) != digest(pd.DataFrame({"a": values}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [1.0, 2.0]}, {"a": [2.0, 1.0]}),
        ({"a": [1.0]}, {"b": [1.0]}),
        ({"a": [1.0]}, {"a": [1]}),
        ({"a": [1.0]}, {"a": ["1.0"]}),
        ({"a": [""]}, {"a": [None]}),
        ({"a": ["ab", ""]}, {"a": ["a", "b"]}),
        ({"a": [1.0], "b": [2.0]}, {"b": [2.0], "a": [1.0]}),
        ({"a": [1.0]}, {"a": [1.0, 1.0]}),
    ],
)
def test_order_names_types_and_missing_values_count(one: dict, other: dict) -> None:
    assert digest(pd.DataFrame(one)) != digest(pd.DataFrame(other))


def test_the_digest_is_the_same_in_every_process_and_release() -> None:
    rows = pd.DataFrame({"a": [1.0, np.nan], "b": [1, 2], "c": ["x", None]})

    assert digest(rows) == ("270c526445909e0c322752519004fc9e18142267738b680f5df96fa98b1d3491")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20))
def test_rows_have_equal_numbers_exactly_when_they_are_equal(rows: list[tuple[int, int]]) -> None:
    groups = row_groups(pd.DataFrame(rows, columns=["a", "b"])).tolist()

    assert groups == [list(dict.fromkeys(rows)).index(row) for row in rows]


def test_missing_values_are_equal_to_one_another() -> None:
    rows = pd.DataFrame({"a": [np.nan, 1.0, np.nan], "b": [1.0, 1.0, 1.0]})

    assert row_groups(rows).tolist() == [0, 1, 0]
