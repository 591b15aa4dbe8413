from datetime import datetime
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_for_mle.contract import (
    OWN_TABLES,
    PREDICTION_COLUMNS,
    RESERVED_RESPONSE_NAMES,
    Contract,
    FeatureType,
)
from mlops_for_mle.contract_tables import prediction_table
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.feature import DATE_PARTS, MISSING_POLICIES, NUMBER_TYPES, TIME_TYPES
from mlops_for_mle.paths import project_path
from mlops_for_mle.tables import metadata

NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=15
) | st.sampled_from(["select", "구독 기간", 'say "hi"', "it's", "a.b", "%s", ":x", "UPPER", "null"])
COLUMNS = st.lists(NAMES, min_size=3, max_size=8, unique=True)
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9).filter(
    str.strip
)
BOUNDS = st.none() | st.floats(-1e6, 1e6)


@st.composite
def features(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(get_args(FeatureType)))
    feature: dict[str, Any] = {
        "type": kind,
        "unit": draw(st.none() | st.text(max_size=5)),
        "missing": draw(
            st.sampled_from([one for one in MISSING_POLICIES[kind] if one != "constant"])
        ),
    }
    if kind in NUMBER_TYPES:
        low, high = draw(BOUNDS), draw(BOUNDS)
        if low is not None and high is not None:
            low, high = min(low, high), max(low, high) + 1
        feature |= {"minimum": low, "maximum": high}
    elif kind == "category":
        values = draw(st.sampled_from([VALUES, st.integers(-9, 9)]))
        feature["categories"] = draw(st.lists(values, min_size=1, max_size=4, unique=True))
        feature["unknown"] = draw(st.sampled_from(["reject", "other"]))
    elif kind in TIME_TYPES:
        feature["earliest"] = draw(st.none() | st.datetimes())
        parts = [one for one in DATE_PARTS if kind == "timestamp" or one != "hour"]
        feature["parts"] = draw(st.lists(st.sampled_from(parts), max_size=3, unique=True))
    return feature


@st.composite
def contracts(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(COLUMNS.filter(lambda found: not {"id", "timestamp"} & set(found)))
    target: dict[str, Any] = {"column": names[0], "response_name": "answer"}
    form = draw(st.sampled_from(["whole", "text", "regression"]))
    if form == "whole":
        values = sorted(draw(st.sets(st.integers(-99, 99), min_size=2, max_size=5)))
        target["classes"] = [{"value": value, "label": f"class {value}"} for value in values]
    elif form == "text":
        words = draw(st.lists(VALUES, min_size=2, max_size=5, unique=True))
        target["classes"] = [{"value": word} for word in words]
    else:
        target |= {"task": "regression", "minimum": draw(BOUNDS)}
    return {
        "name": draw(st.from_regex(r"[a-z][a-z0-9_]{0,47}", fullmatch=True)),
        "table": draw(NAMES),
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


def with_feature(**facts: Any) -> dict[str, Any]:
    return raw_contract(features={"a": facts})


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


def test_text_classes_are_answered_by_their_place_and_named_by_themselves() -> None:
    raw = with_target(classes=[{"value": "yes"}, {"value": "no", "label": "stays"}])

    target = Contract.from_parameters(raw).target

    assert target.class_values == ("yes", "no")
    assert target.class_codes == (0, 1)
    assert target.codes == {"yes": 0, "no": 1}
    assert target.values == {0: "yes", 1: "no"}
    assert target.labels == {0: "yes", 1: "stays"}


def test_bounds_of_dates_are_utc() -> None:
    raw = with_feature(type="timestamp", earliest="2026-01-01T09:00:00+09:00")

    feature = Contract.from_parameters(raw).features["a"]

    assert feature.earliest == datetime.fromisoformat("2026-01-01")


def test_a_date_gives_the_model_sensible_parts_unless_told_otherwise() -> None:
    features = {"a": {"type": "date"}, "b": {"type": "timestamp", "parts": ["hour"]}}

    read = Contract.from_parameters(raw_contract(features=features)).features

    assert read["a"].date_parts == ("days_since_1970", "month", "day", "day_of_week")
    assert read["b"].date_parts == ("hour",)


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
        (raw_contract(table="t" * 64), "contract.table: a name has 1 to 63 bytes"),
        (raw_contract(features={}), "contract.features: "),
        (
            raw_contract(features={"a": {"type": "text"}}),
            "contract.features.a.type: input should be 'float', 'integer', 'decimal', 'boolean', "
            "'category', 'date' or 'timestamp' (found 'text')",
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
            "allowed: type, unit, minimum, maximum, earliest, latest, description, categories, "
            "unknown, missing, constant, parts (found 1)",
        ),
        (with_feature(type="category"), "contract.features.a: a category needs categories"),
        (
            with_feature(type="category", categories=["x", 1]),
            "categories must be all text or all whole numbers",
        ),
        (with_feature(type="category", categories=["x", "x"]), "categories has x twice"),
        (
            with_feature(type="category", categories=[True, "no"]),
            "contract.features.a.categories.0: expected a whole number or text; YAML reads yes, "
            "no, on, off, true and false as booleans, so put the value in quotes (found True)",
        ),
        (
            with_feature(type="category", categories=[str(one) for one in range(1001)]),
            "1001 categories, at most 1000 are allowed: list the frequent ones and set unknown",
        ),
        (with_feature(categories=["x"]), "categories does not go with type float"),
        (with_feature(type="date", minimum=1), "minimum does not go with type date"),
        (with_feature(type="date", parts=["hour"]), "a date has no hour; use type timestamp"),
        (
            with_feature(type="date", earliest="2026-02-01", latest="2026-01-01"),
            "earliest 2026-02-01 00:00:00 must be before latest 2026-01-01 00:00:00",
        ),
        (
            with_feature(type="boolean", missing="mean"),
            "missing: mean does not go with type boolean; allowed: reject, most_frequent, constant",
        ),
        (with_feature(constant=1), "constant goes only with missing: constant"),
        (
            with_feature(missing="constant", constant=5, maximum=4),
            "missing: constant needs constant, a number within minimum and maximum (found 5)",
        ),
        (
            with_feature(type="integer", missing="constant", constant=1.5),
            "missing: constant needs constant, a whole number within",
        ),
        (raw_contract(features={"가" * 22: {}}), "bytes in UTF-8 (a Hangul syllable takes 3)"),
        (raw_contract(features={"a\tb": {}}), "a name cannot hold control characters"),
        (
            raw_contract(features={"ctid": {}}),
            "features.ctid: is a system column of every PostgreSQL table",
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
            with_target(classes=[{"value": 0}, {"value": "yes"}]),
            "classes must have values that are all text or all whole numbers",
        ),
        (with_target(classes=[{"value": "a"}, {"value": "a"}]), "distinct labels and values"),
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


@pytest.mark.parametrize("name", sorted({*PREDICTION_COLUMNS} - RESERVED_RESPONSE_NAMES))
def test_a_prediction_cannot_be_called_as_what_stands_beside_it(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"response_name: .* such as predicted_{name} "):
        Contract.from_parameters(with_target(response_name=name))

    assert Contract.model_validate(with_target(response_name=name)).target.response_name == name


@pytest.mark.parametrize("name", ["x" * 64, "a\tb", "ctid"])
def test_a_prediction_needs_a_name_that_a_column_can_have(name: str) -> None:
    with pytest.raises(ConfigurationError, match="response_name: is also a column of a table"):
        Contract.from_parameters(with_target(response_name=name))


@pytest.mark.parametrize("table", [*sorted(OWN_TABLES), "small_prediction"])
def test_a_table_of_our_own_cannot_be_the_contracts(table: str) -> None:
    with pytest.raises(ConfigurationError, match=r"contract\.table: .* such as small_data"):
        Contract.from_parameters(raw_contract(table=table))


def test_the_names_that_are_kept_are_those_of_our_tables() -> None:
    contract = Contract.from_parameters(raw_contract())

    assert {*metadata.tables, "alembic_version"} == OWN_TABLES
    assert {*prediction_table(contract).columns.keys(), "row_number"} == {
        *PREDICTION_COLUMNS,
        "answer",
    }


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
