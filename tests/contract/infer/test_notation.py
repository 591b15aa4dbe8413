"""How people write numbers, dates and words: each with the value that is ingested."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract.notation import NumberFormat
from mlops_for_mle.errors import UserError
from tests.contract.infer.tables import (
    ROWS,
    contract_text,
    infer,
    ingest,
    ingested,
    parameters_text,
    table,
)

POINT = [f"{number / 7:.2f}" for number in range(ROWS)]
COMMA = [one.replace(".", ",") for one in POINT]


WITH_POINTS = [
    (["1,234", "950", "12,345,678"], [1234, 950, 12345678]),
    (["1'234.5", "7"], [1234.5, 7]),
    (["1\u2019234", "7"], [1234, 7]),
    (["1 234", "1\u202f234\u00a0567"], [1234, 1234567]),
    (["(432)", "5"], [-432, 5]),
    (["12%", "7.5%"], [12, 7.5]),
    (["$1,200", "-$3.50", "($4)"], [1200, -3.5, -4]),
    (["1,200원", "300 원"], [1200, 300]),
    # Of CP949, where won signs stand as backslashes.
    (["\\1,200", "-\\300"], [1200, -300]),
    (["+5", "\u22125"], [5, -5]),
    (["1e5", ".5", "5."], [100000, 0.5, 5]),
]
WITH_COMMAS = [
    (["1.234,5", "12,25"], [1234.5, 12.25]),
    (["12,50 €", "3,00 €"], [12.5, 3]),
    (["12,5", "0,125"], [12.5, 0.125]),
    (["0,123", "0,456"], [0.123, 0.456]),
]


@pytest.mark.parametrize("cases", [WITH_POINTS, WITH_COMMAS])
def test_numbers_are_read_as_they_are_meant(cases):
    rows = table(**{written[0]: written for written, _ in cases})

    found = ingest(rows, infer(rows)).accepted

    for written, values in cases:
        assert found[written[0]][: len(values)].tolist() == values


TEXTS = [
    ["00123", "00456"],
    ["T00370201", "T00370202"],
    ["05_leslie3d", "06_x"],
    ["10.0.0.7", "192.168.100.200"],
    ["192.168.100.200", "192.168.100.201"],
    ["010 1234 5678", "010 2222 3333"],
    ["None", "Paris", "NA"],
    ["1", "2", "3+", "4+"],
    ["9,007,199,254,740,993", "5"],
    ["9007199254740993", "1.5"],
    [str(-(2**53) - 1), str(-(2**53) - 3), "5"],
    ["2024:03:01 10:00:00", "2024:12:31 09:30:00"],
    ["1/2/2024 10:00 - 11:00", "31/1/2024 9:30 - 10:30"],
]


def test_what_is_text_stays_as_it_is():
    rows = table(**{texts[0]: texts for texts in TEXTS})

    found = ingest(rows, infer(rows)).accepted

    for texts in TEXTS:
        assert found[texts[0]][: len(texts)].tolist() == texts


def test_the_mark_of_other_columns_tells_which_one_is_meant():
    assert ingested(table(x=["1,234", "5,678"], b=POINT))[:2] == [1234, 5678]
    assert ingested(table(x=["1,234", "5,678"], a=COMMA))[:2] == [1.234, 5.678]
    assert ingested(table(x=["1.234", "5.678"], a=COMMA))[:2] == [1234, 5678]


def test_marks_that_disagree_are_refused_with_both_readings_until_a_person_decides():
    rows = table(x=["1,234", "5,678"], b=["12,5", "7,25"])

    with pytest.raises(UserError, match=r"'1,234' is 1\.234 \(--decimal comma\) or 1234 \(--"):
        infer(rows)
    assert ingested(rows, decimal="point")[:2] == [1234, 5678]


def test_a_unit_with_an_e_leaves_whole_numbers_whole():
    assert infer(table(x=["12 EUR", "7 EUR"])).contract().features["x"].type == "integer"


DATES = [
    (["31/01/2024", "01/02/2024"], "%d/%m/%Y", "2024-01-31"),
    (["1.2.2024", "31.1.2024"], "%d.%m.%Y", "2024-02-01"),
    (["2024년 1월 2일", "2024년 12월 31일"], "%Y년 %m월 %d일", "2024-01-02"),
    (["2024. 1. 2.", "2024. 12. 31."], "%Y. %m. %d.", "2024-01-02"),
    (["01/31/2024 03:15 PM", "01/02/2024 11:00 AM"], "%m/%d/%Y %I:%M %p", "2024-01-31 15:15"),
    (["2024-03-01 오후 3:00", "2024-03-02 오전 1:30"], "%Y-%m-%d %p %I:%M", "2024-03-01 15:00"),
    (["24.03.01", "24.12.31"], "%y.%m.%d", "2024-03-01"),
    (["2024/03/01", "2024/12/31"], None, "2024-03-01"),
    (["1 March 2024", "31 May 2024"], "%d %B %Y", "2024-03-01"),
    (["01MAR2024:15:00:00.0", "31DEC2024:9:30:00.5"], "%d%b%Y:%H:%M:%S.%f", "2024-03-01 15:00"),
    (["31/01/2024 9:05 +0900", "1/2/2024 10:00 Z"], "%d/%m/%Y %H:%M %z", "2024-01-31 00:05"),
    (["31/01/2024 9:05 UTC", "1/2/2024 10:00 UTC"], "%d/%m/%Y %H:%M UTC", "2024-01-31 09:05"),
    (["Mar-24", "Dec-23"], "%b-%y", "2024-03-01"),
    (["31.12.29", "31.12.35"], "%d.%m.%y", "2029-12-31"),
    (["20240301", "20240302", "20241231"], None, "2024-03-01"),
    (["2024-03-01 10:00", "2024-12-31"], None, "2024-03-01 10:00"),
    (["2024-03-01 10:00:00 UTC", "2024-03-01 10:00:00.5 UTC"], None, "2024-03-01 10:00"),
    (["2024-03-01T10:00:00+09:00", "2024-03-01 10:00:00 "], None, "2024-03-01 01:00"),
    # Nanoseconds would know the years from 1678 on only.
    (["1592-04-13 05:00:00.123456789", "1598-12-16"], None, "1592-04-13 05:00:00.123456"),
]


def test_dates_that_can_only_be_read_in_one_way_are_read():
    rows = table(**{days[0]: days for days, _, _ in DATES})

    proposal = infer(rows)

    found = ingest(rows, proposal).accepted
    for days, code, first in DATES:
        assert found[days[0]][0] == pd.Timestamp(first)
        assert proposal.ingestion["date_formats"].get(days[0]) == code


MARKS = ["?", "N/A", "#N/A", "NaN", "null", "None", "-", "--", "."]


def test_marks_beside_numbers_and_dates_are_missing_values():
    days = ["2024-01-02", "n/a", "2024-01-04"]
    rows = table(day=days, **{mark: [mark, "1", "2"] for mark in MARKS})

    proposal = infer(rows)

    marks, found = proposal.ingestion["missing_marks"], ingest(rows, proposal).accepted
    assert marks == {mark: [mark] for mark in MARKS} | {"day": ["n/a"]}
    assert found["?"][:3].tolist() == [pd.NA, 1, 2]
    assert found["day"].isna().sum() == rows["day"].eq("n/a").sum()


def test_a_mark_that_is_named_is_one_in_typed_columns_too():
    columns = {
        "float": [-999.0, 1.5, 2.5],
        "integer": [-999, 1, 2],
        "numeric": [Decimal("-999.00"), Decimal("1.50")],
        "date": [pd.Timestamp("1900-01-01"), pd.Timestamp("2024-05-01")],
    }
    rows = table(**{name: pd.Series(values * ROWS)[:ROWS] for name, values in columns.items()})

    proposal = infer(rows, missing=("?", "-999.0", "1900-01-01"))

    marks, found = proposal.ingestion["missing_marks"], ingest(rows, proposal).accepted
    assert marks.pop("date") == ["1900-01-01"]
    assert marks == {name: ["-999.0"] for name in ("float", "integer", "numeric")}
    for name, (mark, *_) in columns.items():
        assert found[name].isna().tolist() == (rows[name] == mark).tolist()


def test_what_a_person_should_look_at_is_said_in_the_contract():
    days, answers = ["1900-01-01", "2024-05-01"], ["Yes", "yes", "no"]
    seconds = [str(1_700_000_000 + 7919 * n) for n in range(5)]
    rows = table(answer=answers, day=days, b=["1.5", "2.5", "-999"], seconds=seconds)

    text = contract_text(infer(rows))

    assert "'Yes', 'yes' may be the same" in text
    assert "does 1900-01-01 stand for a missing value?" in text
    assert "seen -999 to 2.5; does -999 stand for a missing value?" in text
    assert "1700031676; are these times, in seconds since 1970?" in text


def test_rare_classes_are_told_with_what_to_do_and_can_be_tried():
    rows = table(x=["1", "2"])
    rows.loc[:2, "y"] = "odd"

    with pytest.raises(UserError, match=r"at least 5: 'odd' 3; .*--missing.*--minimum-"):
        infer(rows)
    tried = infer(rows, minimum_class_rows=3)
    assert "minimum_rows_per_class: 3" in parameters_text(tried)
    assert infer(rows, missing=("odd",)).target.missing_count == 3


@pytest.mark.parametrize(
    ("values", "missing"), [(["p", "q"], ""), (np.linspace(0, 7, 200), -999.0)]
)
def test_rows_without_a_target_are_dropped_by_wish(values, missing):
    rows = table(200, y=pd.Series(np.resize(values, 200)))
    rows.loc[50:, "y"] = missing
    marks = (str(missing),)

    with pytest.raises(UserError, match=r"in 150 of 200 rows: .* --drop-missing-target"):
        infer(rows, missing=marks)
    batch = ingest(rows, infer(rows, missing=marks, drop_missing_target=True))
    assert (len(batch.accepted), len(batch.rejected)) == (50, 150)


@given(
    number=st.decimals(-(10**9), 10**9, places=2, allow_nan=False),
    marks=st.sampled_from([(d, t) for d in ".," for t in ("", *",.' ") if d != t]),
    unit=st.sampled_from(["", "$", "원", "%"]),
)
def test_any_number_comes_back_from_its_format(number, marks, unit):
    decimal, thousands = marks
    written = f"{number:,.2f}".translate(str.maketrans({",": thousands, ".": decimal})) + unit

    read = NumberFormat(decimal=decimal, thousands=thousands, unit=unit).read(pd.Series([written]))

    assert read.tolist() == [float(number)]
    assert np.isnan(NumberFormat(unit=unit).read(pd.Series(["12x"]))[0])
