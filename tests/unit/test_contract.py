from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_for_mle.contract import RESERVED_RESPONSE_NAMES, Contract
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.paths import project_path

COLUMNS = st.lists(st.text(min_size=1, max_size=12), min_size=3, max_size=8, unique=True)
BOUNDS = st.none() | st.floats(-1e6, 1e6)


@st.composite
def features(draw: st.DrawFn) -> dict[str, Any]:
    low, high = draw(BOUNDS), draw(BOUNDS)
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high) + 1
    return {
        "type": draw(st.sampled_from(["float", "integer"])),
        "unit": draw(st.none() | st.text(max_size=5)),
        "minimum": low,
        "maximum": high,
    }


@st.composite
def contracts(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(COLUMNS.filter(lambda found: not {"id", "timestamp"} & set(found)))
    target: dict[str, Any] = {"column": names[0], "response_name": "answer"}
    if draw(st.booleans()):
        values = sorted(draw(st.sets(st.integers(-99, 99), min_size=2, max_size=5)))
        target["classes"] = [{"value": value, "label": f"class {value}"} for value in values]
    else:
        target |= {"task": "regression", "minimum": draw(BOUNDS)}
    return {
        "name": draw(st.from_regex(r"[a-z][a-z0-9_]{0,47}", fullmatch=True)),
        "table": draw(st.text(min_size=1, max_size=63)),
        "features": {name: draw(features()) for name in names[1:]},
        "target": target,
    }


def raw_contract(**changes: Any) -> dict[str, Any]:
    target = {
        "column": "kind",
        "response_name": "answer",
        "classes": [{"value": 0, "label": "no"}, {"value": 1, "label": "yes"}],
    }
    return {"name": "small", "table": "t", "features": {"a": {}}, "target": target} | changes


def with_target(**changes: Any) -> dict[str, Any]:
    raw = raw_contract()
    return raw | {"target": raw["target"] | changes}


@given(contracts())
def test_a_contract_survives_being_written_and_read(raw: dict[str, Any]) -> None:
    contract = Contract.from_parameters(raw)

    assert Contract.from_parameters(contract.model_dump()) == contract
    assert Contract.model_validate_json(contract.model_dump_json()) == contract


@given(contracts())
def test_columns_keep_the_order_of_the_configuration(raw: dict[str, Any]) -> None:
    contract = Contract.from_parameters(raw)

    assert contract.feature_names == tuple(raw["features"])
    assert contract.data_columns == (*raw["features"], raw["target"]["column"])


def test_labels_are_found_by_class_value() -> None:
    target = Contract.from_parameters(raw_contract()).target

    assert target.class_values == (0, 1)
    assert target.labels == {0: "no", 1: "yes"}


def test_a_contract_cannot_be_changed() -> None:
    contract = Contract.from_parameters(raw_contract())

    with pytest.raises(ValidationError, match="frozen"):
        contract.table = "other"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "contract.name: is missing"),
        (raw_contract(name="Iris Table"), "contract.name: allowed are 1 to 48 characters"),
        (raw_contract(name="a" * 49), "contract.name: allowed are 1 to 48 characters"),
        (raw_contract(name="iris\n"), "contract.name: allowed are 1 to 48 characters"),
        (raw_contract(table="t" * 64), "contract.table: string should have at most 63"),
        (raw_contract(features={}), "contract.features: "),
        (
            raw_contract(features={"a": {"type": "text"}}),
            "contract.features.a.type: input should be 'float' or 'integer' (found 'text')",
        ),
        (
            raw_contract(features={"a": {"minimum": 2, "maximum": 1}}),
            "contract.features.a: minimum 2 must be below maximum 1",
        ),
        (
            raw_contract(features={"a": {"minimum": float("inf")}}),
            "contract.features.a.minimum: input should be a finite number",
        ),
        (
            raw_contract(features={"a": {"mimimum": 1}}),
            "contract.features.a.mimimum: unknown key; "
            "allowed: type, unit, minimum, maximum, description (found 1)",
        ),
        (raw_contract(features={"id": {}}), "twice: ['id']"),
        (raw_contract(features={"kind": {}}), "twice: ['kind']"),
        (raw_contract(key="timestamp"), "twice: ['timestamp']"),
        (raw_contract(tabel="t"), "contract.tabel: unknown key; allowed: name, table, key"),
        (with_target(classes=[]), "contract.target: classification needs at least two classes"),
        (with_target(task="regression"), "contract.target: regression takes no classes"),
        (with_target(task="ranking"), "'classification' or 'regression' (found 'ranking')"),
        (
            with_target(classes=[{"value": 1, "label": "a"}, {"value": 0, "label": "b"}]),
            "values in ascending order, found 1 (a), 0 (b)",
        ),
        (
            with_target(classes=[{"value": 0, "label": "a"}, {"value": 1, "label": "a"}]),
            "classes must have distinct labels",
        ),
        (
            with_target(classes=[{"value": 0, "label": "a"}, {"value": 1, "name": "b"}]),
            "contract.target.classes.1.name: unknown key; allowed: value, label (found 'b')",
        ),
    ],
)
def test_a_mistake_is_told_by_its_key(raw: dict[str, Any] | None, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Contract.from_parameters(raw)

    assert message in str(caught.value)


@pytest.mark.parametrize("name", sorted(RESERVED_RESPONSE_NAMES))
def test_the_prediction_cannot_take_the_name_of_another_field_of_an_answer(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"contract\.target\.response_name"):
        Contract.from_parameters(with_target(response_name=name))


def test_the_shipped_contract_is_valid_and_keeps_the_column_order_of_the_table() -> None:
    text = (project_path() / "conf/base/parameters_contract.yml").read_text("utf-8")

    contract = Contract.from_parameters(yaml.safe_load(text)["contract"])

    assert contract.data_columns == (
        "sepal_length",
        "sepal_width",
        "petal_length",
        "petal_width",
        "target",
    )
    assert contract.target.labels == {0: "setosa", 1: "versicolor", 2: "virginica"}
