"""The files that are written beside the contract."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mlops_for_mle.contract_inference.environment import environment_files
from mlops_for_mle.contract_inference.proposal import propose
from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
from mlops_for_mle.pipelines.registry.options import GateOptions
from mlops_for_mle.pipelines.training.estimators import names_for
from mlops_for_mle.pipelines.training.options import TrainingOptions

ROWS = 100
LONG = "the distance in metres that was covered between the two stations"


def written(**columns: Any) -> dict[str, Any]:
    rows = pd.DataFrame({LONG: np.linspace(0, 1, ROWS), **columns})
    files = environment_files(
        propose(rows, "rides", "y", "rides.csv"), {"source": "csv", "csv_path": "a: b.csv"}
    )
    return {
        name: value for content in files.values() for name, value in yaml.safe_load(content).items()
    }


def test_every_block_is_one_that_the_project_takes() -> None:
    blocks = written(y=np.tile(["a", "b"], ROWS // 2))

    TrainingOptions.model_validate(blocks["training"])
    GateOptions.model_validate(blocks["gates"])
    options = IngestionOptions.model_validate({**blocks["ingestion"], "source": "csv"})
    (renamed,) = blocks["contract"]["features"]
    assert options.rename == {LONG: renamed}
    assert blocks["experiment"] == "rides"
    assert blocks["csv_path"] == "a: b.csv"


@pytest.mark.parametrize("name", ["off", "y", "null"])
def test_a_name_that_yaml_takes_for_something_else_stays_a_name(name: str) -> None:
    rows = pd.DataFrame({"a": np.linspace(0, 1, ROWS), "y": np.tile(["a", "b"], ROWS // 2)})

    files = environment_files(propose(rows, name, "y", "rides.csv"), {"source": "csv"})

    assert yaml.safe_load(files["parameters_contract.yml"])["contract"]["name"] == name
    assert yaml.safe_load(files["globals.yml"])["experiment"] == name


@pytest.mark.parametrize(
    ("target", "metric", "estimator"),
    [
        (np.tile(["a", "b"], ROWS // 2), "accuracy", "logistic"),
        (np.tile(["a", "a", "a", "b"], ROWS // 4), "balanced_accuracy", "logistic"),
        (np.sqrt(np.arange(ROWS)), "rmse", "ridge"),
    ],
    ids=["balanced", "imbalanced", "regression"],
)
def test_metric_and_estimator_suit_the_target(target: Any, metric: str, estimator: str) -> None:
    blocks = written(y=target)

    assert blocks["gates"]["metric"] == metric
    assert blocks["gates"]["threshold"] is None
    assert blocks["training"]["estimator"]["name"] == estimator


@pytest.mark.parametrize(("rare", "parameters"), [(2, {"class_weight": "balanced"}), (20, {})])
def test_rare_classes_are_given_weight(rare: int, parameters: dict[str, Any]) -> None:
    blocks = written(y=np.where(np.arange(ROWS) % (ROWS // rare) == 7 % (ROWS // rare), "b", "a"))

    options = TrainingOptions.model_validate(blocks["training"])
    assert options.estimator.parameters == parameters
    assert blocks["gates"]["metric"] == "balanced_accuracy"


def test_the_tolerance_of_an_error_is_in_the_targets_unit() -> None:
    target = np.random.default_rng(0).normal(0, 1_000, ROWS)

    assert written(y=target)["gates"]["tolerance"] == pytest.approx(0.02 * target.std(), rel=0.02)


@pytest.mark.parametrize("target", [["a", "b"], [0.5, 1.7]])
def test_the_estimators_that_are_named_are_those_of_the_menu(target: list[Any]) -> None:
    rows = pd.DataFrame({"x": np.linspace(0, 1, ROWS), "y": np.resize(target, ROWS)})
    proposal = propose(rows, "rides", "y", "rides.csv")

    content = environment_files(proposal, {})["parameters_training.yml"]

    assert f"# One of {', '.join(names_for(proposal.target.task))};" in content
