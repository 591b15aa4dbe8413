from datetime import datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from pydantic import ValidationError

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_target
from mlops_for_mle.contract.model import RESERVED_RESPONSE_NAMES
from mlops_for_mle.database.tables import predictions_of
from tests.contract.strategies import contracts


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


def with_feature(**facts: Any) -> dict[str, Any]:
    return raw_contract(features={"a": facts})


@given(contracts())
def test_a_contract_survives_being_written_and_read(raw):
    contract = Contract.model_validate(raw)

    assert Contract.model_validate(contract.model_dump()) == contract
    assert Contract.model_validate_json(contract.model_dump_json()) == contract


def test_models_from_when_parts_of_a_date_could_be_chosen_are_read_where_none_were():
    plain = Contract.model_validate(with_feature(type="date"))

    assert Contract.model_validate(with_feature(type="date", parts=[])) == plain
    with pytest.raises(ValidationError, match="parts"):
        Contract.model_validate(with_feature(type="date", parts=["month"]))


def test_text_classes_are_answered_by_their_place_and_named_by_themselves():
    raw = with_target(classes=[{"value": "yes"}, {"value": "no", "label": "stays"}])

    target = Contract.model_validate(raw).target

    assert [*target.codes.items()] == [("yes", 0), ("no", 1)]
    assert target.class_codes == (0, 1)
    assert target.values == {0: "yes", 1: "no"}
    assert target.labels == {0: "yes", 1: "stays"}
    assert encode_target(pd.DataFrame({target.column: ["no", "yes"]}), target).tolist() == [1, 0]


def test_times_have_bounds_in_utc():
    read = with_feature(type="timestamp", earliest="2026-01-01T09:00:00+09:00")

    feature = Contract.model_validate(read).features["a"]

    assert feature.earliest == datetime.fromisoformat("2026-01-01")


def category(*values: Any, **facts: Any) -> dict[str, Any]:
    return with_feature(type="category", categories=list(values), **facts)


def classes(*values: Any, **changes: Any) -> dict[str, Any]:
    return with_target(classes=[{"value": value} | changes for value in values])


MISTAKES: list[tuple[str, str, Any]] = [
    (f"features.{'가' * 22}.[key]", "63 bytes", raw_contract(features={"가" * 22: {}})),
    ("", "features and target has id twice", raw_contract(features={"id": {}})),
    ("", "key: predictions have a column release", raw_contract(key="release")),
    ("features.a", "2.0 must be below 1.0", with_feature(minimum=2, maximum=1)),
    ("features.a", "categories needs at least 1", category()),
    ("features.a", "categories must be all text or all whole numbers", category("x", 1)),
    ("features.a", "categories does not go with type float", with_feature(categories=["x"])),
    (
        "features.a",
        "missing: mean does not go with type boolean; allowed: reject, most_frequent, constant",
        with_feature(type="boolean", missing="mean"),
    ),
    ("features.a", "constant needs constant", with_feature(missing="constant", constant=True)),
    ("features.a", "value of the feature's", category("x", missing="constant", constant="y")),
    ("target", "classes needs at least 2", classes()),
    ("target", "regression takes no classes", with_target(task="regression")),
    ("target", "numbers of classes must ascend, found (1, 0)", classes(1, 0)),
    ("target", "classes has a twice", classes("a", "a")),
    ("target", "labels of classes has a twice", classes(0, 1, label="a")),
    (
        "target.response_name",
        "name another, predicted_release",
        with_target(response_name="release"),
    ),
]


@pytest.mark.parametrize(("place", "words", "raw"), MISTAKES)
def test_a_mistake_is_told_by_its_key(place, words, raw):
    with pytest.raises(ValidationError) as caught:
        Contract.model_validate(raw)

    told = [(".".join(map(str, one["loc"])), one["msg"]) for one in caught.value.errors()]
    assert any(found == place and words in message for found, message in told), told


def test_the_names_that_stand_beside_a_prediction_in_its_table_are_reserved():
    table = predictions_of(Contract.model_validate(raw_contract()))

    assert {*table.columns.keys()} - {"answer"} <= RESERVED_RESPONSE_NAMES
