"""The steps of a training, from rows to what is logged."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.releases.manifest import ModelDescription, sha256_of
from mlops_for_mle.releases.metrics import DECIDED_BY_VALUES, GREATER_IS_BETTER
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.training.examples import assemble, fit
from tests.releases import IRIS_CONTRACT, encoded, iris_rows


def test_iris_is_learned_well_and_described_with_all_that_is_to_be_known() -> None:
    svc = {"class_path": "sklearn.svm.SVC"}
    candidate = assemble(iris_rows(with_key=True), IRIS_CONTRACT, estimator=svc)

    description = candidate.description
    assert set(description.metrics) == {
        f"{part}_{metric}"
        for part in ("training", "validation", "baseline")
        for metric in GREATER_IS_BETTER["classification"]
    }
    assert description.metrics["validation_accuracy"] >= 0.93
    assert description.metrics["baseline_accuracy"] == pytest.approx(1 / 3, abs=0.01)
    assert description.model_sha256 == sha256_of(candidate.predictor.model)
    assert description.model_bytes == len(candidate.predictor.model)
    assert description.estimator == "SVC"
    assert (description.snapshot.row_count, description.snapshot.watermark) == (150, 150)
    assert ModelDescription.model_validate_json(description.model_dump_json()) == description
    # Without probabilities the constant answer, too, is measured by its values alone.
    plain = assemble(iris_rows(), IRIS_CONTRACT, estimator=svc, calibrate=False).description
    assert {name.partition("_")[2] for name in plain.metrics} == set(DECIDED_BY_VALUES)


def test_an_unknown_category_counts_as_none_of_the_known_ones() -> None:
    rows = mixed_rows()
    columns = fit({}, rows, MIXED_CONTRACT).named_steps["columns"]

    def transformed(channel: Any) -> np.ndarray:
        changed = rows.head(2).assign(channel=channel)
        return np.asarray(columns.transform(encoded(changed, MIXED_CONTRACT)[0]))

    known, unknown = transformed("web"), transformed(pd.Series(["phone", "fax"]))
    assert (~np.isclose(unknown, known)).sum(axis=1).tolist() == [1, 1]
