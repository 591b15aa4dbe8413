import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from mlops_for_mle.configuration import (
    Configuration,
    explain_errors,
    parse_configuration,
    refuse_misspellings,
)
from mlops_for_mle.errors import ConfigurationError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class Inner(Configuration):
    size: int = Field(default=1, ge=1)
    colour: str | None = None


class Outer(Configuration):
    name: str
    inner: Inner = Inner()
    maybe: Inner | None = None
    by_name: dict[str, Inner] = Field(default_factory=dict)
    several: tuple[Inner, ...] = ()


def messages(raw: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_configuration(Outer, raw, "block")
    return str(caught.value).splitlines()


def test_every_wrong_key_has_its_own_line() -> None:
    found = messages({"inner": {"size": 0}, "several": [{}, {"size": "x"}]})

    assert [line.partition(":")[0] for line in found] == [
        "block.name",
        "block.inner.size",
        "block.several.1.size",
    ]


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"inner": {"sise": 1}}, "block.inner.sise"),
        ({"maybe": {"sise": 1}}, "block.maybe.sise"),
        ({"by_name": {"x": {"sise": 1}}}, "block.by_name.x.sise"),
        ({"several": [{"sise": 1}]}, "block.several.0.sise"),
    ],
)
def test_an_unknown_key_is_answered_with_those_that_are_known_at_its_place(
    raw: dict[str, Any], key: str
) -> None:
    assert messages({"name": "a"} | raw) == [f"{key}: unknown key; allowed: size, colour (found 1)"]


def test_an_unknown_key_at_the_top_is_answered_with_the_keys_of_the_block() -> None:
    (line,) = messages({"name": "a", "nmae": "b"})

    assert line.endswith("allowed: name, inner, maybe, by_name, several (found 'b')")


def test_a_block_that_is_no_mapping_is_told_by_its_name() -> None:
    (line,) = messages(["name"])

    assert line.startswith("block: ")


def test_a_long_value_is_shortened() -> None:
    (line,) = messages({"name": ["x" * 500]})

    assert len(line) < 200
    assert line.endswith("…)")


def test_a_message_without_a_place_does_not_begin_with_a_colon() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json("{")

    assert next(explain_errors(caught.value, "", Outer)).startswith("invalid JSON")


@given(JSON_VALUES)
def test_any_block_is_read_or_refused_with_sentences(raw: Any) -> None:
    try:
        found = parse_configuration(Outer, raw, "block")
    except ConfigurationError as error:
        problem = str(error)
    else:
        problem = "block: none"
        assert Outer.model_validate(found.model_dump()) == found

    assert problem.startswith("block")


def test_the_text_of_a_configuration_is_compact_json_without_what_is_not_set() -> None:
    assert json.loads(str(Outer(name="a"))) == {
        "name": "a",
        "inner": {"size": 1},
        "by_name": {},
        "several": [],
    }


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("trainig", "training"),
        ("gate", "gates"),
        ("Gates", "gates"),
        ("data-checks", "data_checks"),
        ("train", "training"),
        ("rowlimit", "row_limit"),
    ],
)
def test_a_name_that_is_nearly_a_known_one_is_refused_with_the_one_that_was_meant(
    name: str, meant: str
) -> None:
    known = ("training", "gates", "data_checks", "row_limit")
    with pytest.raises(ConfigurationError) as caught:
        refuse_misspellings([name, "training", "mine"], known, "parameters")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{name}: unknown among the parameters; did you mean {meant}?")


@pytest.mark.parametrize("name", ["mine", "tracking", "thresholds", "model", 5, ""])
def test_a_name_that_is_like_none_is_somebodys_own(name: object) -> None:
    refuse_misspellings([name], ("training", "gates", "retraining", "rows"), "parameters")
