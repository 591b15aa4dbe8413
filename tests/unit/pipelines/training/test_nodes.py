import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.errors import UserError
from mlops_for_mle.frames import digest
from mlops_for_mle.pipelines.training import nodes
from mlops_for_mle.predictor import OnnxModel
from mlops_for_mle.records import TrainedModel, Window
from mlops_for_mle.release import sha256_of
from tests.unit.conftest import (
    IRIS_CONTRACT,
    LINE_CONTRACT,
    iris_rows,
    line_rows,
    training_options,
)


def run_training(rows: pd.DataFrame) -> TrainedModel:
    options = training_options("sklearn.svm.SVC", seed=42)
    snapshot = nodes.take_snapshot(Window("iris_data", rows), IRIS_CONTRACT)
    training, validation = nodes.split_snapshot(snapshot, IRIS_CONTRACT, options)
    model, parameters = nodes.train_model(training, IRIS_CONTRACT, options)
    metrics = nodes.evaluate_model(model, training, validation, IRIS_CONTRACT)
    export = nodes.export_model(model, snapshot, IRIS_CONTRACT)
    return nodes.assemble_candidate(
        model, parameters, export, metrics, snapshot, validation, IRIS_CONTRACT, options
    )


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    return run_training(iris_rows(with_key=True))


def test_iris_is_learned_well(trained: TrainedModel) -> None:
    assert trained.passport.metrics["validation_accuracy"] >= 0.93


def test_the_same_rows_give_the_same_passport(trained: TrainedModel) -> None:
    again = run_training(iris_rows(with_key=True))

    assert again.passport == trained.passport
    assert again.onnx == trained.onnx


def test_the_passport_describes_the_graph_and_the_rows(trained: TrainedModel) -> None:
    passport = trained.passport

    assert passport.onnx_sha256 == sha256_of(trained.onnx)
    assert passport.estimator == "SVC"
    assert passport.snapshot.row_count == 150
    assert passport.snapshot.watermark == 150
    assert set(passport.metrics) == {
        f"{part}_{metric}"
        for part in ("training", "validation")
        for metric in ("accuracy", "balanced_accuracy", "macro_f1")
    }


def test_the_served_graph_repeats_the_example(trained: TrainedModel) -> None:
    example = trained.passport.example
    served = OnnxModel(trained.onnx, IRIS_CONTRACT)

    assert len(example.rows) == nodes.EXAMPLE_ROWS
    assert served.predict(np.array(example.rows)).values.tolist() == list(example.predictions)


def test_a_snapshot_without_key_has_no_watermark() -> None:
    rows = iris_rows()

    facts = nodes.take_snapshot(Window("data.csv", rows), IRIS_CONTRACT).facts

    assert facts.watermark is None
    assert facts.sha256 == digest(rows)


def test_the_watermark_is_the_largest_key_in_whatever_order() -> None:
    rows = iris_rows(with_key=True).sample(frac=1, random_state=1)

    assert nodes.take_snapshot(Window("t", rows), IRIS_CONTRACT).facts.watermark == 150


def test_a_class_without_rows_is_told_before_training() -> None:
    rows = iris_rows().query("target == 1")

    with pytest.raises(UserError) as caught:
        nodes.take_snapshot(Window("iris_data", rows), IRIS_CONTRACT)

    assert str(caught.value).startswith(
        "iris_data: 50 rows and none of class 0 (setosa), 2 (virginica); ingest"
    )


def test_a_number_that_never_differs_is_told_before_training() -> None:
    with pytest.raises(UserError, match="y has the same value in all 120 rows"):
        nodes.take_snapshot(Window("t", line_rows().assign(y=1.0)), LINE_CONTRACT)


def test_a_regression_needs_no_classes() -> None:
    assert nodes.take_snapshot(Window("t", line_rows()), LINE_CONTRACT).facts.row_count == 120


def test_what_a_search_finds_is_recorded_with_what_was_configured() -> None:
    options = training_options(
        "sklearn.svm.SVC",
        {"kernel": "rbf", "C": 5.0},
        search={"space": {"C": [1e-6, 1.0]}, "folds": 3, "scoring": "accuracy"},
    )

    model, parameters = nodes.train_model(iris_rows(), IRIS_CONTRACT, options)

    assert parameters == {"kernel": "rbf", "C": 1.0}
    assert model.named_steps["estimator"].C == 1.0
    assert options.estimator.parameters == {"kernel": "rbf", "C": 5.0}


def test_two_pictures_are_drawn(trained: TrainedModel) -> None:
    errors, report = nodes.draw_plots(trained.model, trained.validation, IRIS_CONTRACT)

    assert errors.axes[0].get_title().startswith("Confusion matrix")
    assert report.axes[0].get_title() == "Validation scores by class"
