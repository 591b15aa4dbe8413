"""How people write numbers, dates and words: each with the value that is ingested."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.contract.infer.write import contract_text, parameters_text
from mlops_for_mle.contract.notation import NumberFormat
from mlops_for_mle.errors import SourceError
from tests.pipelines.data_ingestion.observations import batch_of

ROWS = 60
RANDOM = np.random.default_rng(1)


def table(values: Any, **columns: Any) -> pd.DataFrame:
    noise = {"a": RANDOM.random(ROWS).round(3).astype(str), "y": RANDOM.choice(["p", "q"], ROWS)}
    return pd.DataFrame({**noise, "x": np.resize(np.array(values, object), ROWS), **columns})


def infer(rows: pd.DataFrame, **wishes: Any) -> Proposal:
    return propose(rows, "things", "y", "things.csv", **wishes)


def ingested(rows: pd.DataFrame, **wishes: Any) -> list[Any]:
    """The values of x in the table, of as many rows as were given."""
    proposal = infer(rows, **wishes)
    batch = batch_of(proposal.contract(), rows, **proposal.ingestion)
    assert batch.rejected["reason"].tolist() == []
    return list(batch.accepted["x"])


@pytest.mark.parametrize(
    ("written", "values"),
    [
        (["1,234", "950", "12,345,678"], [1234, 950, 12345678]),
        (["1.234,5", "12,25"], [1234.5, 12.25]),
        (["1'234.5", "7"], [1234.5, 7]),
        (["1\u2019234", "7"], [1234, 7]),
        (["1 234", "1\u202f234\u00a0567"], [1234, 1234567]),
        (["(432)", "5"], [-432, 5]),
        (["12%", "7.5%"], [12, 7.5]),
        (["$1,200", "-$3.50", "($4)"], [1200, -3.5, -4]),
        (["1,200원", "300 원"], [1200, 300]),
        (["12,50 €", "3,00 €"], [12.5, 3]),
        (["+5", "\u22125"], [5, -5]),
        (["1e5", ".5", "5."], [100000, 0.5, 5]),
        (["12,5", "0,125"], [12.5, 0.125]),
        (["0,123", "0,456"], [0.123, 0.456]),
    ],
    ids=lambda one: str(one[0]),
)
def test_numbers_are_read_as_they_are_meant(written: list[str], values: list[float]) -> None:
    assert ingested(table(written))[: len(values)] == values


@pytest.mark.parametrize(
    "texts",
    [
        ["00123", "00456"],
        ["T00370201", "T00370202"],
        ["05_leslie3d", "06_x"],
        ["10.0.0.7", "192.168.100.200"],
        ["192.168.100.200", "192.168.100.201"],
        ["010 1234 5678", "010 2222 3333"],
        ["None", "Paris", "NA"],
        ["9,007,199,254,740,993", "5"],
        ["9007199254740993", "1.5"],
    ],
    ids=lambda one: one[0],
)
def test_what_is_text_stays_as_it_is(texts: list[str]) -> None:
    assert ingested(table(texts))[: len(texts)] == texts


def test_the_mark_of_other_columns_tells_which_one_is_meant() -> None:
    comma = [f"{number / 7:.2f}".replace(".", ",") for number in range(ROWS)]
    point = [f"{number / 7:.2f}" for number in range(ROWS)]

    assert ingested(table(["1,234", "5,678"], a=point))[:2] == [1234, 5678]
    assert ingested(table(["1,234", "5,678"], a=comma))[:2] == [1.234, 5.678]
    assert ingested(table(["1.234", "5.678"], a=comma))[:2] == [1234, 5678]


def test_marks_that_disagree_are_refused_with_both_readings_until_a_person_decides() -> None:
    point = [f"{number / 7:.2f}" for number in range(ROWS)]
    rows = table(["1,234", "5,678"], a=point, b=np.resize(["12,5", "7,25"], ROWS))

    with pytest.raises(SourceError, match=r"'1,234' is 1234 or 1\.234. Say which by --decimal"):
        infer(rows)
    assert ingested(rows, decimal="point")[:2] == [1234, 5678]


def test_a_date_that_a_person_explains_is_read_so() -> None:
    rows = table(["01/05/2024", "02/06/2024"])

    assert ingested(rows, date_format={"x": "%d/%m/%Y"})[0] == pd.Timestamp("2024-05-01")


@pytest.mark.parametrize(
    ("written", "times"),
    [
        (["2024-03-01 10:00:00 UTC", "2024-03-01 10:00:00.5 UTC"], ["10:00", "10:00:00.5"]),
        (["2024-03-01T10:00:00+09:00", "2024-03-01 10:00:00 "], ["01:00", "10:00"]),
    ],
)
def test_times_are_utc(written: list[str], times: list[str]) -> None:
    assert ingested(table(written))[:2] == [pd.Timestamp(f"2024-03-01 {one}") for one in times]


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        (["Yes", "yes", "no"], "'Yes', 'yes' may be the same"),
        (["1900-01-01", "2024-05-01"], "does 1900-01-01 stand for a missing value?"),
        ([str(1_700_000_000 + 7919 * (n % 5)) for n in range(ROWS)], "in seconds since 1970?"),
        (["12%", "7%"], 'unit: "%"'),
    ],
)
def test_what_a_person_should_look_at_is_said_in_the_contract(values: Any, remark: str) -> None:
    assert remark in contract_text(infer(table(values)))


def test_case_is_ignored_where_that_is_asked_for() -> None:
    rows = table(["Yes", "YES", "no"])
    contract = infer(table(["Yes", "no"])).contract()

    accepted = batch_of(contract, rows, ignore_case=("x",)).accepted

    assert accepted["x"].tolist()[:3] == ["Yes", "Yes", "no"]


def test_a_date_of_a_form_that_is_not_read_is_called_that() -> None:
    days = [f"week {n % 50} of {1900 + n}" for n in range(ROWS)]

    (left_out,) = infer(table(days)).left_out

    assert "looks like dates in a form that is not read, such as 'week 0 of 1900'" in str(left_out)


def test_years_in_a_row_are_no_identifier() -> None:
    assert ingested(table([str(1950 + n) for n in range(ROWS)]))[:2] == [1950, 1951]


def test_rare_classes_are_told_with_what_to_do_and_can_be_tried() -> None:
    rows = table(["1", "2"], y=np.resize(["p", "q"], ROWS)).sort_values("a", ignore_index=True)
    rows.loc[:2, "y"] = "odd"

    with pytest.raises(SourceError, match=r"'odd' 3 .*--missing 'odd'.*--minimum-class-rows 3"):
        infer(rows)
    tried = infer(rows, minimum_class_rows=3)
    assert "minimum_rows_per_class: 3" in parameters_text(tried)
    assert infer(rows, missing=("odd",)).target.missing_count == 3


def test_rows_without_a_target_are_dropped_by_wish() -> None:
    rows = table(["1", "2"])
    rows.loc[10:, "y"] = ""
    rows = pd.concat([rows] * 5, ignore_index=True).assign(a=RANDOM.random(5 * ROWS).astype(str))

    with pytest.raises(SourceError, match="learn from the others with --drop-missing-target"):
        infer(rows)
    proposal = infer(rows, drop_missing_target=True)
    batch = batch_of(proposal.contract(), rows, **proposal.ingestion)
    assert (len(batch.accepted), len(batch.rejected)) == (50, 250)


@settings(deadline=None, derandomize=True, database=None)
@given(
    number=st.decimals(-(10**9), 10**9, places=2, allow_nan=False),
    decimal=st.sampled_from([".", ","]),
    thousands=st.sampled_from(["", ",", ".", "'", " "]),
    unit=st.sampled_from(["", "$", "원", "%"]),
)
def test_any_number_comes_back_from_its_format(
    number: Any, decimal: Any, thousands: Any, unit: str
) -> None:
    if decimal == thousands:
        return
    written = f"{number:,.2f}".translate(str.maketrans({",": thousands, ".": decimal})) + unit

    read = NumberFormat(decimal=decimal, thousands=thousands, unit=unit).read(pd.Series([written]))

    assert read.tolist() == [float(number)]
