"""The files of the environment: the project takes every block, every value comes back."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mlops_for_mle.contract.infer.decide import one_line
from mlops_for_mle.contract.infer.write import FILES, as_key, as_value, write
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from mlops_for_mle.pipelines.registry.nodes import GateOptions
from mlops_for_mle.pipelines.training.estimators import names_for
from mlops_for_mle.pipelines.training.options import TrainingOptions
from tests.contract.infer.tables import ROWS, infer, parameters_text, table

LONG = "the distance in metres that was covered between the two stations"


def parameters(rows: pd.DataFrame) -> tuple[str, Any]:
    text = parameters_text(infer(rows))
    return text, yaml.safe_load(text)


def test_every_block_is_one_that_the_project_takes(tmp_path: Path) -> None:
    eighths = [f"{number / 8}".replace(".", ",") for number in range(ROWS)]
    proposal = infer(table(a=eighths, **{LONG: ["1,5", "2,5", "3"]}))

    said = write(tmp_path / "new", proposal, {"source": "csv", "csv_path": "a: b.csv"})

    assert "conf/new/contract.yml, to review" in said
    texts = [(tmp_path / "new" / name).read_text("utf-8") for name in FILES]
    blocks = {key: value for text in texts for key, value in yaml.safe_load(text).items()}
    TrainingOptions.model_validate(blocks["training"])
    GateOptions.model_validate(blocks["gates"])
    options = IngestionOptions.model_validate({**blocks["ingestion"], "source": "csv"})
    assert options.rename == {LONG: list(blocks["contract"]["features"])[1]}
    assert options.decimal == "comma"
    assert (blocks["experiment"], blocks["data_folder"]) == ("things", "data/new")
    assert blocks["csv_path"] == "a: b.csv"


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

    assert blocks["gates"]["metric"] == metric
    assert blocks["gates"]["threshold"] is None
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
