"""Performance without labels: what is estimated before they arrive, and what turns out true."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from mlops_for_mle.contract.columns import encode_rows
from mlops_for_mle.pipelines.monitoring.reference import DeployedRelease, expect
from mlops_for_mle.pipelines.monitoring.report import summarise
from mlops_for_mle.releases.predictor import Predictions, Predictor
from tests.pipelines.monitoring.examples import LINE, metric
from tests.pipelines.monitoring.traffic import Traffic, look, trained_on
from tests.releases import SMALL_CONTRACT, make_release


def world(count: int, seed: int, tilt: float = 0.0) -> pd.DataFrame:
    """Rows of a world in which the classes of wide things are hard to tell.

    The larger ``tilt``, the more wide things there are; what follows from a row stays the same.
    """
    random = np.random.default_rng(seed)
    width = 10 * random.beta(2 + tilt, 4, count)
    number = random.integers(0, 8, count)
    is_odd = random.random(count) < 0.02 + 0.45 * (width / 10) ** 1.5
    return pd.DataFrame({"width": width, "count": number, "kind": (number > 3) ^ is_odd}).astype(
        {"kind": "int64"}
    )


def overfitted() -> DeployedRelease:
    """Trees that have learned too much by heart, and so are too sure of themselves."""
    train, validation = world(1000, seed=1), world(1500, seed=2)
    names = ["width", "count"]
    trees = HistGradientBoostingClassifier(max_iter=40, learning_rate=0.5, random_state=0)
    model = Pipeline([("model", trees)]).fit(train[names].to_numpy(), train["kind"])
    metrics = {"validation_accuracy": model.score(validation[names].to_numpy(), validation["kind"])}
    examples = train[names].head(3).to_numpy()
    release = make_release(model, SMALL_CONTRACT, examples, metrics=metrics)
    return DeployedRelease(trained_on(release, train), train, validation)


def test_an_error_is_estimated_by_those_of_answers_alike():
    random = np.random.default_rng(4)
    answers = random.uniform(0, 10, 4000)
    truth = answers + random.normal(0, 0.2 + answers / 5)
    edges = tuple(np.quantile(answers, np.arange(1, 10) / 10))

    found = expect(Predictions(answers, None), truth, LINE, edges)

    large = random.uniform(6, 10, 4000)
    expected = np.array(found.errors)[np.searchsorted(edges, large, side="right")].mean()
    errors = random.normal(0, 0.2 + large / 5) ** 2
    assert expected**0.5 == pytest.approx(errors.mean() ** 0.5, rel=0.05)
    # A bin without a validation row expects what all of them expect.
    alone = expect(Predictions(np.array([1.0]), None), np.array([3.0]), LINE, (5.0,))
    assert alone.errors == (4.0, 4.0)
    # Nor is anything expected of classes without probabilities.
    classes = np.array([0, 1])
    assert expect(Predictions(classes, None), classes, SMALL_CONTRACT, ()).surplus is None


def test_a_month_of_other_customers_is_understood_before_a_label_arrives(database_url):
    release, train, validation = overfitted()
    days = []
    for day in range(30):
        start, source = datetime.now(UTC) - timedelta(days=30 - day), world(2000, day, day / 10)
        traffic = Traffic(database_url, release, seed=day, source=source, start=start)
        days.append(traffic.serve(200, labelled=0))
    options = {"window": {"rows": 3000}}

    before = look(database_url, release, train, validation, **options)

    newest = days[15:]
    hits = [one.predictions == one.rows["kind"] for one in newest]
    true = float(np.mean(hits))
    estimated = metric(before.run, "prediction", "estimated_accuracy").value
    assert estimated == pytest.approx(true, abs=0.03)
    assert true < release.manifest.metrics["validation_accuracy"] - 0.05
    assert before.run.labelled_count == 0
    asked = encode_rows(pd.concat([one.rows for one in newest]), SMALL_CONTRACT)
    own_word = Predictor(release.model, SMALL_CONTRACT).predict(asked).probabilities
    assert own_word.max(axis=1).mean() > true + 0.05
    assert "answers  accuracy " in summarise(before.run)

    for one in newest:
        traffic.tell(one, np.full(200, fill_value=True))
    after = look(database_url, release, train, validation, **options)

    assert metric(after.run, "prediction", "accuracy").value == pytest.approx(true)
    assert metric(after.run, "prediction", "estimated_accuracy").value == estimated
    assert f"accuracy {estimated:.4g} estimated, {true:.4g} measured" in summarise(after.run)
