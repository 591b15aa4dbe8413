"""What is decided about columns of each kind, and how it is written down."""

import unicodedata
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.infer.decide import one_line
from mlops_for_mle.contract.infer.propose import Proposal, propose
from mlops_for_mle.contract.infer.write import as_key, as_value
from mlops_for_mle.pipelines.registry.nodes import GateOptions
from mlops_for_mle.pipelines.training.options import TrainingOptions
from tests.contract.infer.tables import ROWS, contract_text, infer, ingest, parameters_text, table
from tests.mixed import TARGET
from tests.mixed import orders as mixed_orders

DIGITS = pd.Series(np.arange(ROWS) * 7 % 9)


def read_back(document: str) -> Any:
    """What Kedro would read from the file."""
    return OmegaConf.to_container(OmegaConf.create(document), resolve=True)


def contract_of(document: str) -> Contract:
    return Contract.model_validate(read_back(document)["contract"])


@pytest.fixture(scope="module")
def orders() -> Proposal:
    return propose(mixed_orders(500), "orders", TARGET, "orders.csv")


def test_columns_of_every_kind_get_their_type(orders):
    features = orders.contract().features

    assert {name: one.type for name, one in features.items()} == {
        **dict.fromkeys(("월 요금", "Usage (GB)", "price"), "float"),
        **dict.fromkeys(("select", "region code"), "integer"),
        "is new": "boolean",
        **dict.fromkeys(('the "plan"', "channel", "zip"), "category"),
        "가입일": "date",
        "last seen": "timestamp",
    }
    assert orders.contract().timestamp == "timestamp"
    assert features["zip"].categories[0] == "001"
    optional = {name for name, one in features.items() if one.is_optional}
    assert optional == {*features} - {"price", 'the "plan"', "zip", "가입일"}


def test_identifiers_leaks_and_constants_are_left_out_with_a_reason(orders):
    reasons = {one.name: one.left_out for one in orders.left_out}

    assert set(reasons) == {"order_id", "customer no", "currency", "refund"}
    assert "identifier" in reasons["order_id"]
    assert "identifier" in reasons["customer no"]
    assert reasons["currency"] == "has the same value in every row (KRW)"
    assert reasons["refund"] == (
        "alone tells the target, so it may be computed from it, or known only afterwards"
    )
    document = contract_text(orders)
    assert "# refund alone tells the target" in document
    assert "# refund: {type: float, " in document
    assert contract_of(document) == orders.contract()
    put_back = contract_of(document.replace("    # refund: {", "    refund: {"))
    assert put_back.features["refund"].missing == "median"


@pytest.mark.parametrize(
    ("classes", "exceptions", "is_told"), [("pq", 0, True), ("pq", 3, False), ("pqr", 0, False)]
)
@pytest.mark.parametrize("gap", ["", "0"])
def test_gaps_or_zeros_that_tell_the_class_alone_are_a_leak(classes, exceptions, is_told, gap):
    """Of three classes they tell one from the others, which is what a feature may do."""
    outcomes = [classes[n % len(classes)] for n in range(300)]
    amounts = [gap if one == "p" else f"{100 + n}.5" for n, one in enumerate(outcomes)]
    amounts[:exceptions] = ["7.5"] * exceptions

    left_out = infer(table(300, y=outcomes, refund=amounts)).left_out

    assert [one.name for one in left_out] == ["refund"] * is_told


def test_ranges_have_a_margin_but_keep_their_sign():
    ranges: list[tuple[Any, tuple[float, float]]] = [
        (np.linspace(10, 20, ROWS), (5, 25)),
        (np.linspace(0, 20, ROWS), (0, 30)),
        (np.linspace(-20, 0, ROWS), (-30, 0)),
        (np.linspace(-1, 1, ROWS), (-2, 2)),
        (DIGITS % 2, (0, 1)),
        (np.linspace(0.001, 0.123, ROWS), (0, 0.18)),
        (["", "0"], (0, 1)),
    ]
    columns = {f"b{place}": values for place, (values, _) in enumerate(ranges)}

    features = infer(table(**columns).astype(str)).contract().features

    found = [(features[name].minimum, features[name].maximum) for name in columns]
    assert found == [limits for _, limits in ranges]


@pytest.mark.parametrize(
    ("values", "metric"),
    [
        (["0", "1"], "accuracy"),
        (["예", "예", "예", "아니오"], "balanced_accuracy"),
        (["true", "false"], "accuracy"),
        ((DIGITS % 3).map(Decimal), "accuracy"),
        (["0.0", "1.0", "2.0", ""], "accuracy"),
        (np.linspace(0, 7, ROWS), "rmse"),
    ],
)
def test_the_target_decides_the_task_and_what_suits_it(values, metric):
    rows, task = table(z=values), "regression" if metric == "rmse" else "classification"
    proposal = infer(rows, target="z")
    target, blocks = proposal.contract().target, read_back(parameters_text(proposal))

    assert target.task == task
    assert len(ingest(rows, proposal).accepted) == proposal.target.values.notna().sum()
    if task == "classification":
        whole = {str(one).removesuffix(".0") for one in values} - {""}
        assert set(map(str, target.codes)) == whole
    gates = GateOptions.model_validate(blocks["gates"])
    assert (gates.metric, gates.threshold) == (metric, None)
    assert blocks["training"]["estimator"]["name"] == "auto"


@pytest.mark.parametrize("name", ["created_at", "관측일시"])
def test_a_column_named_like_the_time_of_an_observation_is_taken_for_it(name):
    times = pd.date_range("2024-01-01", periods=ROWS, freq="h")

    contract = infer(table(**{name: times})).contract()

    assert contract.timestamp == name
    assert name not in contract.features


def test_a_column_that_the_target_is_computed_from_is_left_out():
    amount = np.random.default_rng(1).random(200) * 100
    proposal = infer(table(200, total=amount * 1.1, net=amount), target="total")

    assert [one.name for one in proposal.left_out] == ["net"]


def test_an_identifier_is_left_out_and_not_what_merely_happens_to_be_unique():
    shuffled = [n * 7919 % 1009 for n in range(ROWS)]
    columns = {
        "customer_id": list(range(1, ROWS + 1)),
        "ticket": list(range(ROWS, 0, -1)),
        "customerNo": [f"C{number:05d}" for number in range(ROWS)],
        "주문번호": shuffled,
        "note": ["a" * 1_200, "b", "c"] * 19 + ["d"],
        "week": [f"week {n} of {1900 + n}" for n in range(ROWS)],
        "number of trades": shuffled,
        "since": list(range(1950, 1950 + ROWS)),
    }

    reasons = {one.name: one.left_out for one in infer(table(**columns)).left_out}

    assert [*reasons] == [*columns][:6]
    told = "looks like dates in a form that is not read, such as 'week 0 of 1900'"
    assert told in reasons.pop("week")
    assert all("so it is an identifier or free text" in reason for reason in reasons.values())


def test_a_long_tail_of_categories_becomes_one_and_a_longer_one_is_left_out():
    tail = [f"c{n % 100}" for n in range(2_000)] + [f"rare{n}" for n in range(300)]
    streets = [f"street {n % 1_200}" for n in range(2_300)]
    proposal = infer(table(2_300, b=tail, street=streets))

    feature = proposal.contract().features["b"]
    assert feature.unknown == "other"
    assert set(feature.categories) == {f"c{n}" for n in range(100)}
    (street,) = proposal.left_out
    assert street.left_out.startswith("has 1,200 different values in 2,300 rows")


def test_columns_called_like_ours_do_not_clash():
    rows = table(id=["1", "2", "3"], timestamp=["1.5", "2.5"], label=["0", "1"])

    contract = infer(rows, target="label").contract()

    assert (contract.key, contract.timestamp) == ("row_id", "observed_at")
    assert {"id", "timestamp"} <= set(contract.features)
    assert contract.target.response_name == "predicted_label"
    of_ids = infer(table(id=["0", "1"]), target="id").contract()
    assert (of_ids.key, of_ids.target.response_name) == ("row_id", "predicted_id")


def test_names_that_postgres_cannot_have_are_renamed_and_stay_apart():
    long = ["길다" * 20 + "하나", "길다" * 20 + "둘"]
    odd = [*long, "a\tb", "a b", "ctid", "", "  ", "select"]

    proposal = infer(table(**{name: ["1", "2", "3"] for name in odd}))

    names, renamed = [*proposal.contract().features], proposal.ingestion["rename"]
    assert len(set(names)) == len(odd) + 1
    assert all(1 <= len(name.encode()) <= 63 for name in names)
    assert renamed.keys() == set(odd) - {"a b", "select"}
    assert (renamed["ctid"], renamed["a\tb"], renamed[""]) == ("ctid_2", "a b_2", "column")
    assert read_back(parameters_text(proposal))["ingestion"]["rename"] == renamed


def test_what_rows_belong_together_by_is_kept_and_no_feature():
    """Its name, as all in options, may have any form of Unicode."""
    rows = table(가게=[7, 8, None])

    proposal = infer(rows, group=unicodedata.normalize("NFD", "가게"))

    contract = contract_of(contract_text(proposal))
    assert contract.group == "가게" not in contract.features
    assert "split: {by: group}" in parameters_text(proposal)
    batch = ingest(rows, proposal)
    assert batch.accepted["가게"].head(2).tolist() == ["7", "8"]
    assert batch.rejected.empty
    assert batch.accepted["가게"].isna()[2]


@pytest.mark.parametrize(("at_once", "by"), [(1, "time"), (ROWS - 4, "hash"), (ROWS, "hash")])
def test_the_newest_rows_are_held_back_where_rows_have_times(at_once, by):
    """Rows that came together, but for a few, such as a first batch, have no older and newer."""
    seconds = [max(number, at_once - 1) for number in range(ROWS)]
    times = [str(pd.Timestamp("2026-01-01") + pd.Timedelta(one, "s")) for one in seconds]

    text = parameters_text(infer(table(timestamp=times)))
    blocks = read_back(text)

    training = TrainingOptions.model_validate(blocks["training"])
    assert training.split.by == by
    assert ("the newest are held back" in text) == (by == "time")


# No surrogates and no bytes that YAML has no form for; "???" stands for "missing" in OmegaConf.
TREACHEROUS = (
    *("off", "no", "Yes", "null", "~", "nan", ".inf", "1e5", "0x10", "00123", "1:30", "2024-01-02"),
    *("=", "<<", "${x}", "\\${x}", "\\\\${a.b}", "a ${x}", "a: b", "# no", "- x", "'", '"', "@x"),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda x: x != "???")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = TEXTS | st.integers() | st.booleans() | st.none() | FLOATS


@example(dict(zip(TREACHEROUS, TREACHEROUS, strict=True)), "")
@given(st.dictionaries(TEXTS.filter(bool), VALUES, max_size=4), st.text())
def test_any_mapping_comes_back_and_a_comment_is_one_printable_line(values, comment):
    document = "".join(f"{as_key(key)}: {as_value(one)}\n" for key, one in values.items())

    listed = list(values.values())
    found = read_back(f'{document}"": {as_value(listed)}  # {one_line(comment)}')
    assert found == {**values, "": listed}
