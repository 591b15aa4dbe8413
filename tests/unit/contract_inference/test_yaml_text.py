"""What is written as YAML comes back out of Kedro's configuration unchanged."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mlops_for_mle.contract_inference.yaml_text import comment, yaml_key, yaml_value

# No surrogates and no bytes that YAML has no form for; "???" stands for "missing" in OmegaConf.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda x: x != "???")
KEYS = TEXTS.filter(bool)


def read_back(document: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(document), resolve=True)


@given(TEXTS)
def test_any_text_comes_back(text: str) -> None:
    assert read_back(f"value: {yaml_value(text)}") == {"value": text}


TREACHEROUS = (
    *("no", "Yes", "null", "~", "nan", ".inf", "1e5", "0x10", "00123", "1:30", "2024-01-02"),
    *(
        "=",
        "<<",
        "${x}",
        "\\${x}",
        "\\\\${a.b}",
        "a: b",
        "# no",
        "- x",
        "'",
        '"',
        "@x",
        "😀",
        "서울 강남",
    ),
)


@pytest.mark.parametrize("text", TREACHEROUS)
def test_text_that_yaml_or_omegaconf_would_take_for_something_else_comes_back(text: str) -> None:
    assert read_back(f"value: {yaml_value([text])}") == {"value": [text]}
    assert read_back(f"{yaml_key(text)}: 1") == {text: 1}


@given(st.dictionaries(KEYS, st.one_of(TEXTS, st.integers(), st.booleans(), st.none()), max_size=4))
def test_any_mapping_comes_back(values: dict[str, Any]) -> None:
    assert read_back(f"value: {yaml_value(values)}") == {"value": values}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_comes_back(number: float) -> None:
    assert read_back(f"value: {yaml_value(number)}") == {"value": number}


@given(st.text())
def test_a_comment_is_one_printable_line(text: str) -> None:
    assert read_back(f"a: 1  # {comment(text)}\nb: 2") == {"a": 1, "b": 2}
