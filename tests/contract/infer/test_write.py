"""The files of the environment: the project takes every block, every value comes back."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from mlops_for_mle.contract.infer.propose import propose
from mlops_for_mle.contract.infer.write import FILES, as_comment, as_key, as_value, write
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from mlops_for_mle.pipelines.registry.options import GateOptions
from mlops_for_mle.pipelines.training.estimators import names_for
from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions

ROWS = 100
RANDOM = np.random.default_rng(3)
LONG = "the distance in metres that was covered between the two stations"


def written(folder: Path, name: str = "rides", **columns: Any) -> dict[str, Any]:
    """The blocks of the files."""
    rows = pd.DataFrame({LONG: RANDOM.random(ROWS), **columns})
    proposal = propose(rows, name, "y", "rides.csv")
    write(folder / "new", proposal, {"source": "csv", "csv_path": "a: b.csv"})
    assert sorted(one.name for one in (folder / "new").iterdir()) == sorted(FILES)
    texts = [one.read_text("utf-8") for one in (folder / "new").iterdir()]
    return {key: value for text in texts for key, value in yaml.safe_load(text).items()}


def test_every_block_is_one_that_the_project_takes(tmp_path: Path) -> None:
    blocks = written(tmp_path, y=np.tile(["a", "b"], ROWS // 2))

    TrainingOptions.model_validate(blocks["training"])
    GateOptions.model_validate(blocks["gates"])
    options = IngestionOptions.model_validate({**blocks["ingestion"], "source": "csv"})
    (renamed,) = blocks["contract"]["features"]
    assert options.rename == {LONG: renamed}
    assert (blocks["experiment"], blocks["data_folder"]) == ("rides", "data/new")
    assert blocks["csv_path"] == "a: b.csv"


@pytest.mark.parametrize(
    ("target", "metric"),
    [
        (np.tile(["a", "b"], ROWS // 2), "accuracy"),
        (np.tile(["a", "a", "a", "b"], ROWS // 4), "balanced_accuracy"),
        (np.sqrt(np.arange(ROWS)), "rmse"),
    ],
    ids=["balanced", "imbalanced", "regression"],
)
def test_metric_and_estimator_suit_the_target(target: Any, metric: str, tmp_path: Path) -> None:
    blocks = written(tmp_path, y=target)

    assert blocks["gates"]["metric"] == metric
    assert blocks["gates"]["threshold"] is None
    assert blocks["training"]["estimator"]["name"] == "auto"
    task = "regression" if metric == "rmse" else "classification"
    text = (tmp_path / "new/parameters.yml").read_text("utf-8")
    assert f"# {', '.join(names_for(task))}; or class_path" in text


@pytest.mark.parametrize("days", [1, 40])
def test_the_newest_rows_are_held_back_where_rows_have_times(days: int, tmp_path: Path) -> None:
    rows = pd.DataFrame({"x": RANDOM.random(ROWS), "y": np.tile(["a", "b"], ROWS // 2)})
    rows["timestamp"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(ROWS) % days, "D")

    write(tmp_path / "new", propose(rows, "rides", "y", "rides.csv"), {})

    text = (tmp_path / "new/parameters.yml").read_text("utf-8")
    training = TrainingOptions.model_validate(yaml.safe_load(text)["training"])
    assert training.split.by == ("time" if days > 1 else "hash")
    assert ("the newest are held back" in text) == (days > 1)


def test_labels_that_contradict_one_another_do_not_stop_training(tmp_path: Path) -> None:
    rows = 4 * ROWS
    x = RANDOM.random(rows)
    answer = (x > 0.5) ^ (RANDOM.random(rows) < 0.15)
    proposal = propose(pd.DataFrame({"x": x, "y": answer}), "rides", "y", "rides.csv")
    assert proposal.label_noise > 0.1

    write(tmp_path / "new", proposal, {})

    blocks = yaml.safe_load((tmp_path / "new/parameters.yml").read_text("utf-8"))
    assert DataCheckOptions.model_validate(blocks["data_checks"]).maximum_label_noise is None


# No surrogates and no bytes that YAML has no form for; "???" stands for "missing" in OmegaConf.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda x: x != "???")
KEYS = TEXTS.filter(bool)
TREACHEROUS = (
    *("off", "no", "Yes", "null", "~", "nan", ".inf", "1e5", "0x10", "00123", "1:30", "2024-01-02"),
    *("=", "<<", "${x}", "\\${x}", "\\\\${a.b}", "a: b", "# no", "- x", "'", '"', "@x", "😀"),
    "서울 강남",
)


def read_back(document: str) -> Any:
    return OmegaConf.to_container(OmegaConf.create(document), resolve=True)


@pytest.mark.parametrize("text", TREACHEROUS)
def test_text_that_yaml_or_omegaconf_would_take_for_something_else_comes_back(text: str) -> None:
    assert read_back(f"value: {as_value([text])}") == {"value": [text]}
    assert read_back(f"{as_key(text)}: 1") == {text: 1}


@settings(deadline=None, database=None)
@given(
    st.dictionaries(
        KEYS,
        TEXTS
        | st.integers()
        | st.booleans()
        | st.none()
        | st.floats(allow_nan=False, allow_infinity=False),
        max_size=4,
    )
)
def test_any_mapping_comes_back(values: dict[str, Any]) -> None:
    assert read_back(f"value: {as_value(values)}") == {"value": values}


@settings(deadline=None, database=None)
@given(st.text())
def test_a_comment_is_one_printable_line(text: str) -> None:
    assert read_back(f"a: 1  # {as_comment(text)}\nb: 2") == {"a": 1, "b": 2}
