from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.encoding import Encoding, encoding_of, read_time
from mlops_for_mle.feature import Feature
from mlops_for_mle.frame_encoding import encode_frame, plain_rows
from tests.unit.conftest import SMALL_CONTRACT

FEATURES: dict[str, dict[str, Any]] = {
    "구독 기간": {"missing": "mean"},
    "count": {"type": "integer", "missing": "constant", "constant": 0},
    "price": {"type": "decimal"},
    "is new": {"type": "boolean", "missing": "most_frequent"},
    'say "plan"': {"type": "category", "categories": ["가", "b", "true"], "unknown": "other"},
    "code": {"type": "category", "categories": [30, 10], "missing": "separate"},
    "since": {"type": "date", "missing": "median"},
    "at": {
        "type": "timestamp",
        "parts": ["year", "month", "day", "day_of_week", "hour", "days_since_1970"],
    },
}
CONTRACT = Contract.model_validate(
    {
        "name": "mixed",
        "table": "mixed",
        "features": FEATURES,
        "target": {"column": "y", "task": "regression", "response_name": "y"},
    }
)
TIMES = st.datetimes(datetime.fromisoformat("1700-01-01"), datetime.fromisoformat("2261-01-01"))


def plain_values(feature: Feature) -> st.SearchStrategy[Any]:
    values: dict[str, st.SearchStrategy[Any]] = {
        "float": st.floats(-1e9, 1e9),
        "integer": st.integers(-(2**53), 2**53),
        "decimal": st.floats(-1e9, 1e9),
        "boolean": st.booleans(),
        "category": st.sampled_from([*feature.categories, *(["new"] if feature.unknown else [])]),
        "date": TIMES.map(lambda one: one.date().isoformat()),
        "timestamp": TIMES.map(lambda one: one.isoformat()),
    }
    if feature.has_integer_categories:
        values["category"] = st.sampled_from([*feature.categories, 77])
    found = values[feature.type]
    return found | st.none() if feature.is_optional else found


ROWS = st.lists(
    st.tuples(*(plain_values(one) for one in CONTRACT.features.values())), min_size=1, max_size=6
)


def frame_of(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """The rows as the table gives them."""
    frame = pd.DataFrame(rows, columns=list(CONTRACT.features), dtype=object)
    kinds = {"integer": "Int64", "boolean": "boolean", "float": "float64", "decimal": "float64"}
    for name, feature in CONTRACT.features.items():
        if feature.is_time:
            frame[name] = pd.to_datetime(frame[name], format="ISO8601").astype("datetime64[us]")
        else:
            frame[name] = frame[name].astype(kinds.get(feature.type, object))
    return frame


@given(ROWS)
def test_all_forms_of_the_encoding_agree(rows: list[tuple[Any, ...]]) -> None:
    encoding = encoding_of(CONTRACT)
    columns = {
        name: [row[place] for row in rows] for place, name in enumerate(CONTRACT.feature_names)
    }

    by_row = encoding.rows(rows)

    assert by_row.shape == (len(rows), encoding.width)
    np.testing.assert_array_equal(by_row, encoding.by_columns(columns))
    np.testing.assert_array_equal(by_row, encode_frame(frame_of(rows), CONTRACT).to_numpy())
    np.testing.assert_array_equal(by_row[0], encoding.row(rows[0]))


@given(ROWS)
def test_plain_values_of_a_frame_are_encoded_as_the_frame_is(rows: list[tuple[Any, ...]]) -> None:
    encoding = encoding_of(CONTRACT)
    frame = frame_of(rows)

    plain = plain_rows(frame, CONTRACT)

    np.testing.assert_array_equal(encoding.rows(plain), encode_frame(frame, CONTRACT).to_numpy())


def test_each_kind_of_value_has_its_documented_code() -> None:
    row = [1.5, 2, 9.25, True, "b", 10, "1970-01-02", "2026-02-01T23:59:00"]

    encoded = dict(zip(encoding_of(CONTRACT).names, encoding_of(CONTRACT).row(row), strict=True))

    assert encoded == {
        "구독 기간": 1.5,
        "count": 2,
        "price": 9.25,
        "is new": 1,
        'say "plan"': 1,
        "code": 1,
        "since.days_since_1970": 1,
        "since.month": 1,
        "since.day": 2,
        "since.day_of_week": 5,
        "at.year": 2026,
        "at.month": 2,
        "at.day": 1,
        "at.day_of_week": 7,
        "at.hour": 23,
        "at.days_since_1970": 20485,
    }


def test_what_is_missing_or_unknown_is_told_apart() -> None:
    row = [None, None, 1.0, None, "never seen", None, None, "2026-02-01"]

    encoded = encoding_of(CONTRACT).row(row)

    np.testing.assert_array_equal(encoded[:6], [np.nan, np.nan, 1.0, np.nan, -1, 2])
    assert np.isnan(encoded[6:10]).all()


def test_a_contract_of_plain_numbers_is_encoded_as_it_is() -> None:
    encoding = encoding_of(SMALL_CONTRACT)
    frame = pd.DataFrame({"extra": [0], "count": [3], "width": [0.1]})

    assert encoding.is_identity
    assert encoding.names == SMALL_CONTRACT.feature_names
    assert encode_frame(frame, SMALL_CONTRACT).to_numpy().tolist() == [[0.1, 3.0]]
    assert encoding.rows([(0.1, 3)]).tolist() == [[0.1, 3.0]]


def test_parts_never_take_the_name_of_another_feature() -> None:
    features = {"a": {"type": "date", "parts": ["month"]}, "a.month": {}, "a.month_": {}}
    contract = CONTRACT.model_copy(
        update={"features": {name: Feature.model_validate(raw) for name, raw in features.items()}}
    )

    assert Encoding(contract).names == ("a.month__", "a.month", "a.month_")


def test_times_with_an_offset_are_read_as_utc() -> None:
    assert read_time("2026-01-01T09:00:00+09:00") == datetime.fromisoformat("2026-01-01")


@pytest.mark.parametrize("value", ["soon", "2026-13-01", "0001-01-01T00:00+09:00", 5, True, ""])
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is no date or time"):
        read_time(value)


def test_every_column_of_the_matrix_is_explained() -> None:
    described = encoding_of(CONTRACT).describe()

    assert tuple(described) == encoding_of(CONTRACT).names
    assert described['say "plan"'] == 'say "plan" as a code: 0 가, 1 b, 2 true, -1 any other'
    assert described["code"] == "code as a code: 0 30, 1 10, 2 missing"
    assert described["since.month"] == "month of since, in UTC; NaN where it is missing"
