"""Tables to train on, and the steps of a training by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import encode_examples
from mlops_for_mle.pipelines.training import nodes
from mlops_for_mle.pipelines.training.estimators import build_estimator
from mlops_for_mle.pipelines.training.options import EstimatorOptions, TrainingOptions
from tests.releases import contract_of

LINE_CONTRACT = contract_of("line", {"a": {}, "b": {}})
# Enough for a test of what is served.
SMALL: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 8},
    "histogram_gradient_boosting": {"max_iter": 8},
}


def line_rows(row_count: int = 120, seed: int = 0) -> pd.DataFrame:
    """Rows of a linear relation with a little noise."""
    random = np.random.default_rng(seed)
    values = random.uniform(-3, 3, (row_count, 2))
    rows = pd.DataFrame(values, columns=list(LINE_CONTRACT.features))
    rows["y"] = values @ [2.0, -1.0] + 5 + random.normal(0, 0.1, row_count)
    return rows


def fit(
    estimator: dict[str, Any], rows: pd.DataFrame, contract: Contract, seed: int = 1
) -> Pipeline:
    """An estimator by configuration, fitted to all rows."""
    options = EstimatorOptions.model_validate(estimator)
    return build_estimator(options, contract, seed).fit(*encode_examples(rows, contract))


def split(rows: pd.DataFrame, contract: Contract, **training: Any) -> nodes.Examples:
    """The steps from rows to examples, without checks."""
    rows.attrs["source"] = "a table"
    options = TrainingOptions.model_validate(training)
    return nodes.prepare_examples(nodes.take_snapshot(rows, contract), contract, options)[0]


def train(rows: pd.DataFrame, contract: Contract, **training: Any) -> nodes.Trained:
    """The steps from rows to a model with its served form, without checks."""
    options = TrainingOptions.model_validate(training)
    return nodes.train_model(split(rows, contract, **training), options)


def assemble(
    rows: pd.DataFrame, contract: Contract, quality: dict[str, Any] | None = None, **training: Any
) -> SimpleNamespace:
    """The steps from rows to what is logged, without checks."""
    trained = train(rows, contract, **training)
    candidate, _ = nodes.assemble_candidate(trained, nodes.evaluate_model(trained), quality or {})
    return SimpleNamespace(**vars(trained), candidate=candidate, description=candidate[1])
