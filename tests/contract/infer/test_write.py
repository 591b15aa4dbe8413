"""The files of the environment: the project takes every block, every value comes back."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mlops_for_mle.contract.infer.decide import one_line
from mlops_for_mle.contract.infer.write import as_key, as_value
from mlops_for_mle.pipelines.registry.nodes import GateOptions
from mlops_for_mle.pipelines.training.estimators import names_for
from mlops_for_mle.pipelines.training.options import TrainingOptions
from tests.contract.infer.tables import ROWS, infer, parameters_text, table


def parameters(rows: pd.DataFrame) -> tuple[str, Any]:
    text = parameters_text(infer(rows))
    return text, yaml.safe_load(text)


@pytest.mark.parametrize(
    ("target", "metric"),
    [
        (["a", "b"], "accuracy"),
        (["a", "a", "a", "b"], "balanced_accuracy"),
        (np.sqrt(np.arange(ROWS)), "rmse"),
    ],
    ids=["balanced", "imbalanced", "regression"],
)
def test_metric_and_estimator_suit_the_target(target: Any, metric: str) -> None:
    text, blocks = parameters(table(y=target))

    gates = GateOptions.model_validate(blocks["gates"])
    assert (gates.metric, gates.threshold) == (metric, None)
    assert blocks["training"]["estimator"]["name"] == "auto"
    task = "regression" if metric == "rmse" else "classification"
    assert f"# {', '.join(names_for(task))}; or class_path" in text


@pytest.mark.parametrize("days", [1, 40])
def test_the_newest_rows_are_held_back_where_rows_have_times(days: int) -> None:
    times = [f"2026-01-01 00:00:{number % days:02d}" for number in range(ROWS)]

    text, blocks = parameters(table(timestamp=times))

    training = TrainingOptions.model_validate(blocks["training"])
    assert training.split.by == ("time" if days > 1 else "hash")
    assert ("the newest are held back" in text) == (days > 1)


# No surrogates and no bytes that YAML has no form for; "???" stands for "missing" in OmegaConf.
TREACHEROUS = (
    *("off", "no", "Yes", "null", "~", "nan", ".inf", "1e5", "0x10", "00123", "1:30", "2024-01-02"),
    *("=", "<<", "${x}", "\\${x}", "\\\\${a.b}", "a ${x}", "a: b", "# no", "- x", "'", '"', "@x"),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda x: x != "???")
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = TEXTS | st.integers() | st.booleans() | st.none() | FLOATS


def read_back(document: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(document), resolve=True)


@example(dict(zip(TREACHEROUS, TREACHEROUS, strict=True)), "")
@given(st.dictionaries(TEXTS.filter(bool), VALUES, max_size=4), st.text())
def test_any_mapping_comes_back_and_a_comment_is_one_printable_line(
    values: dict[str, Any], comment: str
) -> None:
    document = "".join(f"{as_key(key)}: {as_value(one)}\n" for key, one in values.items())

    listed = list(values.values())
    found = read_back(f'{document}"": {as_value(listed)}  # {one_line(comment)}')
    assert found == {**values, "": listed}
