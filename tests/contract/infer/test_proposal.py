"""What is decided about columns of each kind."""

import datetime
import unicodedata
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.infer.features import column_names
from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.contract.infer.write import contract_text
from tests.mixed_rows import TARGET, mixed_rows

ROWS = 200
RANDOM = np.random.default_rng(5)
DIGITS = pd.Series(RANDOM.integers(0, 9, ROWS))
IS_GAP = RANDOM.random(ROWS) < 0.1


def infer(target: str = "y", as_text: bool = True, **columns: Any) -> Proposal:
    sound = {"a": np.linspace(0.5, 9.5, ROWS), "y": RANDOM.integers(0, 2, ROWS)}
    rows = pd.DataFrame({**sound, **columns})
    return propose(rows.astype(str) if as_text else rows, "things", target, "things.csv")


def read_back(document: str) -> Contract:
    """The contract as Kedro would read it from the file."""
    raw: Any = OmegaConf.to_container(OmegaConf.create(document), resolve=True)
    return Contract.model_validate(raw["contract"])


@pytest.fixture(scope="module")
def orders() -> Proposal:
    return propose(mixed_rows(3_000), "orders", TARGET, "orders.csv")


def test_columns_of_every_kind_get_their_type(orders: Proposal) -> None:
    features = orders.contract().features

    assert {name: one.type for name, one in features.items()} == {
        "ordered at": "timestamp",
        "birth date": "date",
        "price": "float",
        "items": "integer",
        "weight (kg)": "float",
        "delay_days": "float",
        "Rating": "integer",
        "size": "category",
        "channel 경로": "category",
        "zip": "category",
        "city": "category",
        "gift": "boolean",
        "select": "float",
        'the "quoted"': "float",
        "temperature": "float",
        "flag": "integer",
    }
    assert orders.contract().timestamp == "timestamp"
    assert features["zip"].categories[0] == "001"
    assert {name for name, one in features.items() if one.is_optional} == {
        "birth date",
        "weight (kg)",
        "delay_days",
        "size",
    }


def test_identifiers_leaks_and_constants_are_left_out_with_a_reason(orders: Proposal) -> None:
    reasons = {one.source_name: one.left_out or "" for one in orders.left_out}

    assert set(reasons) == {"order_id", "customer no", "currency", "refund"}
    assert "identifier" in reasons["order_id"]
    assert "identifier" in reasons["customer no"]
    assert reasons["currency"] == "has the same value in every row (KRW)"
    assert "depending on the target" in reasons["refund"]
    document = contract_text(orders)
    assert "# refund is missing or not depending on the target" in document
    assert "# refund: {type: float, " in document
    assert read_back(document) == orders.contract()
    put_back = read_back(document.replace("    # refund: {", "    refund: {"))
    assert put_back.features["refund"].missing == "median"


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (np.linspace(10, 20, ROWS), 5, 25),
        (np.linspace(0, 20, ROWS), 0, 30),
        (np.linspace(-20, 0, ROWS), -30, 0),
        (np.linspace(-1, 1, ROWS), -2, 2),
        (DIGITS.to_numpy() % 2, 0, 1),
        (np.linspace(0.001, 0.123, ROWS), 0, 0.18),
    ],
)
def test_ranges_have_a_margin_but_keep_their_sign(values: Any, low: float, high: float) -> None:
    feature = infer(b=values).contract().features["b"]

    assert (feature.minimum, feature.maximum) == (low, high)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.Series(RANDOM.random(ROWS) < 0.5), "boolean"),
        (DIGITS, "integer"),
        (
            pd.Series(RANDOM.integers(0, 9, ROWS)).astype("Int64").mask(RANDOM.random(ROWS) < 0.1),
            "integer",
        ),
        (DIGITS.mask(IS_GAP), "float"),
        (DIGITS.astype(float), "float"),
        (pd.Series([Decimal(number) / 100 for number in range(ROWS)]), "decimal"),
        (pd.Series(pd.Categorical(RANDOM.choice(["x", "z"], ROWS))), "category"),
        (pd.Series([datetime.date(2024, 1, 1 + n % 28) for n in range(ROWS)]), "date"),
        (pd.Series(pd.date_range("2024-01-01", periods=ROWS)), "date"),
        (
            pd.Series(pd.date_range("2024-01-01", periods=ROWS, freq="h", tz="Asia/Seoul")),
            "timestamp",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_typed_columns_keep_their_type(values: Any, kind: str) -> None:
    assert infer(as_text=False, b=values).contract().features["b"].type == kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["true", "FALSE"], "boolean"),
        (["Y", "N"], "category"),
        (["1", "2"], "integer"),
        (["1.0", "2.5"], "float"),
        (["1.0", "2.0"], "float"),
        (["1.0", "2.0", ""], "float"),
        (["1.0", "2.5", ""], "float"),
        (["1e3", "-2"], "float"),
        (["007", "123"], "category"),
        (["2024-01-02", "2024-03-04"], "date"),
        (["2024/01/02", "2024/03/04"], "date"),
        (["20240102", "20240304", "20240506"], "date"),
        (["2024-01-02 10:00", "2024-03-04"], "timestamp"),
        (["2024-01-02T10:00:00Z", "2024-03-04T11:00:00+09:00"], "timestamp"),
    ],
    ids=str,
)
def test_text_is_read_as_what_it_says(values: list[str], kind: str) -> None:
    assert infer(b=RANDOM.choice(values, ROWS)).contract().features["b"].type == kind


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (RANDOM.integers(0, 2, ROWS), "classification"),
        (RANDOM.integers(1, 6, ROWS), "classification"),
        (RANDOM.choice(["예", "아니오"], ROWS), "classification"),
        (RANDOM.choice(["True", "False"], ROWS), "classification"),
        (RANDOM.integers(0, 1000, ROWS), "regression"),
        (RANDOM.random(ROWS), "regression"),
    ],
)
def test_the_target_decides_the_task(values: Any, task: str) -> None:
    target = infer(target="z", z=values).contract().target

    assert target.task == task
    if task == "classification":
        assert {str(one) for one in target.class_values} == {str(value) for value in values}


def test_the_task_can_be_wished() -> None:
    rows = pd.DataFrame({"a": RANDOM.random(ROWS), "y": RANDOM.integers(1, 6, ROWS)})

    wished = propose(rows, "things", "y", "things.csv", task="regression")
    assert wished.contract().target.task == "regression"


def test_what_may_stand_for_a_missing_value_is_remarked() -> None:
    (_, found) = infer(b=RANDOM.choice([1.5, 2.5, -999], ROWS)).features

    assert found.remark == "seen -999 to 2.5; does -999 stand for a missing value? See --missing"


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(RANDOM.integers(0, 3, ROWS), dtype=float),
        pd.Series(RANDOM.integers(0, 3, ROWS), dtype=float).mask(IS_GAP),
        pd.Series([Decimal(n % 3) for n in range(ROWS)]),
    ],
    ids=["floats", "floats with gaps", "decimals"],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_whole_numbers_written_as_floats_are_classes_like_others(
    values: "pd.Series[Any]", as_text: bool
) -> None:
    written = values.astype(str).replace("nan", "") if as_text else values

    target = infer(target="z", as_text=False, z=written).contract().target

    assert (target.task, target.class_values) == ("classification", (0, 1, 2))


@pytest.mark.parametrize("name", ["created_at", "Timestamp", "관측일시"])
def test_a_column_named_like_the_time_of_an_observation_is_taken_for_it(name: str) -> None:
    proposal = infer(**{name: pd.date_range("2024-01-01", periods=ROWS, freq="h")})

    assert proposal.contract().timestamp == name
    assert name not in proposal.contract().features


def test_a_column_that_the_target_is_computed_from_is_left_out() -> None:
    amount = RANDOM.random(ROWS) * 100
    proposal = infer(target="total", total=amount * 1.1, net=amount)

    assert [(one.source_name, one.left_out) for one in proposal.left_out] == [
        ("net", "follows the target almost exactly, so it may be computed from it")
    ]


def test_a_long_tail_of_categories_becomes_one() -> None:
    common = RANDOM.choice([f"c{number}" for number in range(100)], 4_000)
    rows = pd.DataFrame({"b": [*common, *(f"rare{number}" for number in range(300))]})
    rows["y"] = RANDOM.choice(["p", "q"], len(rows))

    feature = propose(rows, "things", "y", "x").contract().features["b"]

    assert feature.unknown == "other"
    assert set(feature.categories) == set(common)


def test_a_column_called_id_or_timestamp_does_not_clash_with_ours() -> None:
    proposal = infer(id=RANDOM.integers(0, 5, ROWS), timestamp=RANDOM.random(ROWS), label="x")

    contract = proposal.contract()
    assert (contract.key, contract.timestamp) == ("row_id", "observed_at")
    assert {"id", "timestamp"} <= set(contract.features)


@pytest.mark.parametrize("name", ["label", "id"])
def test_a_target_called_like_a_column_of_answers_gets_another_name_there(name: str) -> None:
    columns = {name: RANDOM.integers(0, 2, ROWS)}

    target = infer(target=name, **columns).contract().target

    assert (target.column, target.response_name) == (name, f"predicted_{name}")


def test_names_that_postgres_cannot_have_are_renamed_and_stay_apart() -> None:
    long = ["길다" * 20 + "하나", "길다" * 20 + "둘"]
    names = column_names([*long, "a\tb", "a b", "ctid", "", "  ", "select"])

    assert len(set(names.values())) == len(names)
    assert all(1 <= len(name.encode()) <= 63 for name in names.values())
    assert names["select"] == "select"
    assert names["ctid"] == "ctid_2"
    assert names["a\tb"] == "a b_2"
    assert names[""] == "column_6"


def test_a_column_of_noughts_with_gaps_gets_a_range() -> None:
    feature = infer(b=np.where(IS_GAP, "", "0")).contract().features["b"]

    assert (feature.minimum, feature.maximum, feature.missing) == (0, 1, "median")


def test_names_in_options_are_those_of_columns_in_any_form_of_unicode() -> None:
    rows = pd.DataFrame(
        {
            "값": [str(number % 37) for number in range(200)],
            "비고": ["abcdefg"[number % 7] for number in range(200)],
            "답": [str(number % 2) for number in range(200)],
        }
    )
    decomposed = unicodedata.normalize("NFD", "비고")
    proposal = propose(rows, "x", "답", "rows", leave_out=(decomposed,))
    assert [one.source_name for one in proposal.left_out] == ["비고"]
