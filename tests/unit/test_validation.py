import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.records import Window
from mlops_for_mle.validation import ContractValidator
from tests.unit.conftest import IRIS_CONTRACT, LINE_CONTRACT, SMALL_CONTRACT, iris_rows, line_rows


def check(rows: pd.DataFrame, contract: Contract = IRIS_CONTRACT) -> Window:
    return ContractValidator(contract.model_dump()).validate(Window("table t", rows))


def small_rows(**changes: object) -> pd.DataFrame:
    values = {"width": [1.0, 2.0], "count": [3, 4], "kind": [0, 1]} | changes
    return pd.DataFrame(values)


@pytest.mark.parametrize("with_key", [False, True])
def test_rows_that_fit_are_given_back_as_they_are(with_key: bool) -> None:
    rows = iris_rows(with_key)

    assert check(rows).rows is rows


def test_columns_that_the_contract_does_not_know_are_left_alone() -> None:
    rows = iris_rows().assign(note="x")

    assert check(rows).rows is rows


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("width", -0.1, "width: is below 0, found -0.1"),
        ("width", 10.1, "width: is above 10, found 10.1"),
        ("width", np.nan, "width: not_nullable, found nan"),
        ("count", 2.5, "count: is no whole number, found 2.5"),
        ("count", 2.0**53, "count: is too large to be kept exactly"),
        ("kind", 7, "kind: is none of 0 (no), 1 (yes), found 7"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_column_and_reason(
    column: str, value: float, reason: str
) -> None:
    rows = small_rows(**{column: [1, value]})

    with pytest.raises(UserError) as caught:
        check(rows, SMALL_CONTRACT)

    assert reason in str(caught.value)
    assert "table t: 1 value(s) do not fit contract small" in str(caught.value)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("column", ["width", "count"])
def test_infinity_fits_no_feature(column: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"{column}: is not finite, found {value}"):
        check(small_rows(**{column: [1, value]}), SMALL_CONTRACT)


def test_the_key_of_the_first_bad_row_is_named_whatever_the_index() -> None:
    rows = iris_rows(with_key=True).sample(frac=1, random_state=3)
    rows.loc[rows["id"].isin([17, 90]), "petal_width"] = 99.0
    first = next(key for key in rows["id"] if key in (17, 90))

    with pytest.raises(UserError, match=rf"2 value\(s\).*first: id {first}"):
        check(rows)


def test_a_missing_column_is_told() -> None:
    with pytest.raises(UserError, match="petal_width"):
        check(iris_rows(with_key=True).drop(columns="petal_width"))


def test_a_regression_target_must_be_a_finite_number() -> None:
    rows = line_rows(5)
    rows.loc[3, "y"] = -np.inf

    with pytest.raises(UserError, match="y: is not finite, found -inf"):
        check(rows, LINE_CONTRACT)


def test_text_in_a_number_column_is_told() -> None:
    with pytest.raises(UserError, match="width"):
        check(small_rows(width=["wide", "narrow"]), SMALL_CONTRACT)


def test_a_wrong_contract_is_refused_when_the_catalog_is_built() -> None:
    with pytest.raises(ConfigurationError, match=r"contract\.features"):
        ContractValidator({"name": "iris", "table": "t"})
