"""Builds real releases for tests: a small scikit-learn model in its served form."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_examples, plain_rows
from mlops_for_mle.contract.encoding import Encoder, encoded_columns
from mlops_for_mle.pipelines.training.estimators import build_estimator
from mlops_for_mle.pipelines.training.onnx import convert
from mlops_for_mle.pipelines.training.options import EstimatorOptions
from mlops_for_mle.releases.explain import training_ranges
from mlops_for_mle.releases.manifest import (
    Example,
    Manifest,
    Parity,
    Release,
    SnapshotFacts,
    release_name,
    sha256_of,
)
from tests.mixed import MIXED_CONTRACT, mixed_rows


def contract_of(name: str, features: dict[str, Any], labels: str = "", **target: Any) -> Contract:
    """A contract by its features; the classes of its target are counted from zero."""
    classes = [{"value": code, "label": label} for code, label in enumerate(labels.split())]
    task = "classification" if classes else "regression"
    target = {"column": "y", "task": task, "classes": classes, "response_name": "y"} | target
    facts = {"name": name, "table": f"{name}_data", "features": features, "target": target}
    return Contract.model_validate(facts)


IRIS_CONTRACT = contract_of(
    "iris",
    {
        name: {"unit": "cm", "minimum": 0, "maximum": 10}
        for name in ("sepal_length", "sepal_width", "petal_length", "petal_width")
    },
    "setosa versicolor virginica",
    column="target",
    response_name="iris_class",
)
SMALL_CONTRACT = contract_of(
    "small",
    {"width": {"minimum": 0, "maximum": 10}, "count": {"type": "integer"}},
    "no yes",
    column="kind",
    response_name="kind",
)
HOUSE_CONTRACT = contract_of(
    "houses",
    {"방 수": {"type": "integer", "minimum": 1, "maximum": 20}, "area m2": {"minimum": 1}},
    column="price",
    response_name="price",
)


def iris_rows(with_key: bool = False) -> pd.DataFrame:
    """The whole iris table under the contract's names."""
    features, target = load_iris(return_X_y=True)
    rows = pd.DataFrame(features, columns=list(IRIS_CONTRACT.features))
    rows[IRIS_CONTRACT.target.column] = target
    if with_key:
        rows.insert(0, IRIS_CONTRACT.key, np.arange(1, len(rows) + 1))
    return rows


def changed(release: Release, /, **facts: Any) -> Release:
    """The release with other facts in its manifest."""
    return Release(manifest=release.manifest.model_copy(update=facts), model=release.model)


@cache
def iris_release(version: int = 1) -> Release:
    """A release of a logistic regression on iris; another version has other coefficients."""
    rows, classes = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=float(version)))
    model.fit(rows, classes)
    return make_release(model, IRIS_CONTRACT, rows[::50], version)


def trained_iris_release(version: int = 1) -> Release:
    """The same with what training tells of its rows."""
    rows = load_iris().data
    ranges = training_ranges(rows, IRIS_CONTRACT)
    background = tuple(map(tuple, rows[::3].tolist()))
    return changed(iris_release(version), background=background, training_ranges=ranges)


@cache
def house_release(version: int = 1) -> Release:
    """A release of a linear regression with one integer feature."""
    random = np.random.default_rng(version)
    rows = np.column_stack([random.integers(1, 9, 100), random.uniform(20, 200, 100)])
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(rows, rows @ [10.0, 2.0])
    return make_release(model, HOUSE_CONTRACT, rows[:3], version)


@cache
def mixed_release(version: int = 1) -> Release:
    """A release of the menu's logistic regression on every type of column."""
    rows = mixed_rows(300, seed=version)
    model = build_estimator(EstimatorOptions(name="logistic"), MIXED_CONTRACT, seed=1)
    model.fit(*encode_examples(rows, MIXED_CONTRACT))
    examples = plain_rows(rows.head(3), MIXED_CONTRACT)
    return make_release(model, MIXED_CONTRACT, examples, version)


def make_release(
    model: Pipeline, contract: Contract, examples: Any, version: int = 1, **manifest: Any
) -> Release:
    """Convert a fitted pipeline; ``manifest`` replaces parts of the manifest."""
    given = examples.tolist() if isinstance(examples, np.ndarray) else examples
    names = [one.name for one in encoded_columns(contract)]
    frame = pd.DataFrame(Encoder(contract)(zip(*given, strict=True)), columns=names)
    examples = frame if hasattr(model, "feature_names_in_") else frame.to_numpy()
    graph = convert(model, contract, "float32")
    classes = contract.target.classes
    probabilities = model.predict_proba(examples).tolist() if classes else None
    facts = {
        "release": release_name(contract.name, version, f"run{version}"),
        "created_at": datetime.now(UTC),
        "version": version,
        "run_id": f"run{version}",
        "contract": contract,
        "estimator": type(model.steps[-1][1]).__name__,
        "precision": "float32",
        "metrics": {"validation_accuracy": 0.97},
        "snapshot": SnapshotFacts(
            source=contract.table, sha256="0" * 64, watermark=None, row_count=100
        ),
        "parity": Parity(point_count=100, largest_difference=1e-6),
        "example": Example(
            rows=given, predictions=model.predict(examples).tolist(), probabilities=probabilities
        ),
        "model_sha256": sha256_of(graph),
        "model_bytes": len(graph),
        "background": given,
    }
    return Release(manifest=Manifest.model_validate(facts | manifest), model=graph)
