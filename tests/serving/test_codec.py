import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.contract import Contract
from mlops_for_mle.serving.formats.documents import parse_json
from mlops_for_mle.serving.formats.row_reader import GivenRows, RowReader, RowsForm
from mlops_for_mle.serving.errors import ProblemError
from tests.new_releases import HOUSE_CONTRACT, IRIS_CONTRACT
from tests.serving.conftest import IRIS_ROW

IRIS = RowReader(IRIS_CONTRACT, "float32")
HOUSES = RowReader(HOUSE_CONTRACT, "float32")


def refusal(reader: RowReader, body: bytes | str) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        reader.read(body.encode() if isinstance(body, str) else body)
    assert caught.value.status == 422
    return caught.value


def test_values_stand_in_the_order_of_the_contract_whatever_the_order_of_the_fields():
    reversed_row = json.dumps(dict(reversed(IRIS_ROW.items()))).encode()

    assert IRIS.read(reversed_row).rows.tolist() == [[6.7, 3.3, 5.7, 2.1]]


def test_names_with_spaces_and_korean_letters_are_read():
    assert HOUSES.read('{"방 수": 3, "area m2": 80.5}'.encode()).rows.tolist() == [[3, 80.5]]


def test_an_escaped_name_is_the_same_name():
    assert HOUSES.read(b'{"\\ubc29 \\uc218": 3.0, "area m2": 80}').rows.tolist() == [[3, 80]]


@pytest.mark.parametrize(
    ("literal", "message", "given"),
    [
        ("true", "is no number", "true"),
        ('"5.7"', "is no number", '"5.7"'),
        ("null", "is no number", "null"),
        ("[1, 2]", "is no number", "a list of 2"),
        ('{"a": 1}', "is no number", "an object of 1 fields"),
        ("NaN", "is not finite", "NaN"),
        ("-Infinity", "is not finite", "-Infinity"),
        ("1e400", "is not finite", "Infinity"),
        ("10.001", "is too large", "10.001"),
        ("-1", "is too small", "-1"),
        ("1" * 5000, "is not finite", "Infinity"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_given_and_what_is_allowed(literal, message, given):
    body = json.dumps(IRIS_ROW).replace("5.7", literal)

    (error,) = refusal(IRIS, body).errors

    assert error == ("petal_length", message, given, "a number from 0 to 10")


def test_every_wrong_field_is_named_at_once():
    errors = refusal(IRIS, '{"sepal_length": "a", "sepal_width": 3, "petal": 1}').errors

    assert [(error.path, error.message) for error in errors] == [
        ("sepal_length", "is no number"),
        ("petal_length", "is missing"),
        ("petal_width", "is missing"),
        ("petal", "is an unknown field"),
    ]


def test_a_field_given_twice_is_refused_with_both_values():
    body = json.dumps(IRIS_ROW)[:-1] + ', "petal_width": 2.2}'

    (error,) = refusal(IRIS, body).errors

    assert error.path == "petal_width"
    assert error.message == "is given more than once"
    assert error.given == "2.1 and 2.2"


def test_a_field_given_twice_under_an_escaped_name_is_refused():
    body = json.dumps(IRIS_ROW)[:-1] + ', "petal\\u005fwidth": 2.1}'

    assert refusal(IRIS, body).errors[0].message == "is given more than once"


def test_a_whole_number_is_demanded_of_an_integer_feature():
    (error,) = refusal(HOUSES, '{"방 수": 2.5, "area m2": 80}').errors

    assert error == ("방 수", "is no whole number", "2.5", "a whole number from 1 to 20")


def test_what_a_float32_model_cannot_hold_is_refused_and_a_float64_model_takes_it():
    body = '{"방 수": 2, "area m2": 1e39}'

    assert "beyond what the model computes" in refusal(HOUSES, body).errors[0].message
    assert RowReader(HOUSE_CONTRACT, "float64").read(body.encode()).rows[0, 1] == 1e39


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b'{"sepal_length": ' * 50_000, "the body is nested too deeply"),
        (b'{"sepal_length\xff": 1}', "the body is not UTF-8"),
        ("\ufeff{}".encode(), "the body is not JSON"),
        (json.dumps(IRIS_ROW).encode("utf-16"), "the body is not UTF-8"),
        (b"[]", "has no rows"),
        (b"[3]", "is no object"),
        (b"3", "is no object"),
        (b'"\\ud800"', "is no object"),
    ],
)
def test_a_body_that_is_no_object_is_refused_in_one_sentence(body, message):
    problem = refusal(IRIS, body)

    assert problem.errors[0].message.startswith(message)
    json.dumps(problem.document()).encode()


def outcome(read: Callable[[bytes], GivenRows], body: bytes) -> Any:
    """The row, or what was said against it."""
    try:
        return read(body).rows.tolist()
    except ProblemError as problem:
        return problem.errors


numbers = st.one_of(
    st.floats(), st.integers(), st.floats(0, 10), st.booleans(), st.none(), st.text(max_size=3)
)
names = st.sampled_from([*IRIS_CONTRACT.feature_names, "other"])


@given(st.dictionaries(names, numbers, min_size=3))
def test_the_short_and_the_long_way_agree(row):
    body = json.dumps(row).encode()

    assert outcome(IRIS.read, body) == outcome(lambda same: IRIS.explain(parse_json(same)), body)


@given(st.dictionaries(st.sampled_from(IRIS_CONTRACT.feature_names), st.floats(0, 10), min_size=4))
def test_every_row_within_the_contract_is_read_exactly(row):
    read = IRIS.read(json.dumps(row).encode()).rows

    assert read.tolist() == [[row[name] for name in IRIS_CONTRACT.feature_names]]


@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_a_refusal(body):
    assert refusal(IRIS, body).status == 422


ROWS = [IRIS_ROW, IRIS_ROW | {"petal_width": 0.2}, IRIS_ROW | {"sepal_length": 5}]
COLUMNS = {name: [row[name] for row in ROWS] for name in IRIS_ROW}
MATRIX = [[row[name] for name in IRIS_ROW] for row in ROWS]


@pytest.mark.parametrize(
    ("document", "form"),
    [(ROWS, RowsForm.LIST), (ROWS[:1], RowsForm.LIST), ({"columns": COLUMNS}, RowsForm.COLUMNS)],
)
@pytest.mark.parametrize("encode", [json.dumps, lambda one: json.dumps(one, indent=2)])
def test_many_rows_are_read_as_a_list_and_by_columns(document, form, encode):
    read = IRIS.read(encode(document).encode())

    assert read.rows.tolist() == (MATRIX if document != ROWS[:1] else MATRIX[:1])
    assert read.form is form


def test_columns_stand_in_the_order_of_the_contract_whatever_their_order():
    body = json.dumps({"columns": dict(reversed(COLUMNS.items()))}).encode()

    assert IRIS.read(body).rows.tolist() == MATRIX


def test_a_wrong_value_among_many_rows_is_named_with_its_place():
    rows = [*ROWS, IRIS_ROW | {"petal_width": 11}, IRIS_ROW | {"petal_length": None}]
    columns = {name: [row[name] for row in rows] for name in IRIS_ROW}

    by_rows = refusal(IRIS, json.dumps(rows)).errors
    by_columns = refusal(IRIS, json.dumps({"columns": columns})).errors

    assert [error.path for error in by_rows] == ["[3].petal_width", "[4].petal_length"]
    assert {error.path for error in by_columns} == {
        "columns.petal_width[3]",
        "columns.petal_length[4]",
    }


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (COLUMNS | {"petal_width": [1]}, "differ in length"),
        ({name: [] for name in IRIS_ROW}, "has no rows"),
        (COLUMNS | {"petal_width": 1}, "is no list"),
        (COLUMNS | {"other": [1, 2, 3]}, "is an unknown field"),
        ({"petal_width": [1]}, "is missing"),
        ([1], "is no object"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, message):
    assert refusal(IRIS, json.dumps({"columns": columns})).errors[0].message == message


def test_a_column_given_twice_is_refused():
    body = json.dumps({"columns": COLUMNS})[:-2] + ', "petal_width": [1, 2, 3]}}'

    assert refusal(IRIS, body).errors[0].message == "is no list"


def test_a_row_of_a_list_with_a_field_given_twice_is_refused():
    body = "[" + json.dumps(IRIS_ROW) + "," + json.dumps(IRIS_ROW)[:-1] + ', "petal_width": 2}]'

    (error,) = refusal(IRIS, body).errors
    assert (error.path, error.message) == ("[1].petal_width", "is given more than once")


def test_a_thousand_faults_are_counted_and_only_the_first_are_told():
    problem = refusal(IRIS, json.dumps([{}] * 250))

    assert len(problem.errors) == 50
    assert "(999 more)" in problem.detail


def test_one_feature_may_be_named_columns():
    contract = Contract.model_validate(
        HOUSE_CONTRACT.model_dump() | {"features": {"columns": {"minimum": 0}}}
    )
    reader = RowReader(contract, "float64")

    assert reader.read(b'{"columns": 3}') == GivenRows(np.array([[3.0]]), RowsForm.ONE)
    assert reader.read(b'{"columns": {"columns": [1, 2]}}').rows.tolist() == [[1], [2]]
    assert reader.read(b'[{"columns": 1}, {"columns": 2}]').rows.tolist() == [[1], [2]]


@given(st.lists(st.dictionaries(names, numbers, min_size=4), max_size=4))
def test_the_short_and_the_long_way_agree_on_many_rows(rows):
    by_columns = {name: [row.get(name) for row in rows] for name in IRIS_CONTRACT.feature_names}
    for document in (rows, {"columns": by_columns}):
        body = json.dumps(document).encode()

        assert outcome(IRIS.read, body) == outcome(
            lambda same: IRIS.explain(parse_json(same)), body
        )


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash"])
def test_names_that_json_escapes_are_read(name):
    contract = Contract.model_validate(
        IRIS_CONTRACT.model_dump() | {"features": {name: {"minimum": 0}, "b": {}}}
    )
    reader = RowReader(contract, "float32")
    row = {name: 1, "b": 2}

    assert reader.read(json.dumps(row).encode()).rows.tolist() == [[1, 2]]
    assert reader.read(json.dumps([row, row]).encode()).rows.tolist() == [[1, 2], [1, 2]]
    columns = {"columns": {name: [1, 3], "b": [2, 4]}}
    assert reader.read(json.dumps(columns).encode()).rows.tolist() == [[1, 2], [3, 4]]
    key = json.dumps(name)
    said = refusal(reader, f'{{{key}: 1, "b": 2, {key}: 3}}')
    assert [(one.path, one.message) for one in said.errors] == [(name, "is given more than once")]
    assert refusal(reader, json.dumps(row | {name: -1})).errors[0].message == "is too small"
