"""What people are shown of a model: pictures, and remarks."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.text import Text

from mlops_for_mle.contract import Contract, Target
from mlops_for_mle.pipelines.training.report import draw
from tests.pipelines.training.examples import LINE_CONTRACT, assemble, line_rows
from tests.releases import IRIS_CONTRACT, contract_of

IRIS, LINE = IRIS_CONTRACT.target, LINE_CONTRACT.target

TRUTH = np.array([0, 0, 1, 1, 1, 2])
FOUND = np.array([0, 1, 1, 1, 2, 2])


def texts(found: Iterable[Text]) -> list[str]:
    return [one.get_text() for one in found]


def test_classes_are_shown_by_their_confusion_and_their_reliability():
    raw = IRIS.model_dump(mode="json")
    # No font has this label.
    raw["classes"][1]["label"] = "\U0001f9ff"
    target = Target.model_validate(raw)

    errors, report = draw(TRUTH, FOUND, {"served": np.eye(3)[FOUND] * 0.4 + 0.2}, target)

    (matrix,) = errors.axes
    assert texts(matrix.texts) == ["1", "1", "0", "0", "2", "1", "0", "0", "1"]
    assert texts(matrix.get_yticklabels()) == ["setosa", "class 1", "virginica"]
    assert matrix.get_title() == "Confusion matrix, 6 validation rows"
    shares, reliability = report.axes
    assert texts(shares.texts) == ["0.5", "0.5", "0", "0", "0.67", "0.33", "0", "0", "1"]
    (right,) = (line for line in reliability.lines if line.get_label() == "served")
    np.testing.assert_allclose(right.get_xdata(), [0.6])
    np.testing.assert_allclose(right.get_ydata(), [4 / 6])


def test_a_regression_is_shown_by_its_values_and_residuals():
    truth, found = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])

    values, residuals = (
        np.asarray(figure.axes[0].collections[0].get_offsets()).tolist()
        for figure in draw(truth, found, {}, LINE)
    )

    assert values == [[1.5, 1.0], [2.0, 2.0], [3.0, 4.0]]
    assert residuals == [[1.5, -0.5], [2.0, 0.0], [3.0, 1.0]]


def remarks(rows: pd.DataFrame, quality: Any = None, **training: Any) -> tuple[str, ...]:
    return assemble(rows, LINE_CONTRACT, quality, **training).description.remarks


def test_what_a_person_should_look_at_is_told():
    random, line = np.random.default_rng(2), line_rows().assign(y=lambda one: one["a"] * 3.0)
    noise = line_rows(80).assign(y=lambda one: random.normal(size=80) + one["a"] * 0.2)
    tree = {"class_path": "sklearn.tree.DecisionTreeRegressor"}
    search = {"space": {"alpha": [0.1, 1, 10]}, "scoring": "r2", "engine": {"scheduler": "threads"}}
    alone = {"single_feature_scores": {"a": 1.0, "b": 0.0}}

    assert remarks(noise, estimator=tree)[0].startswith("it overfits: r2 is 1.0000 on the rows")
    assert remarks(line, search=search) == (
        "the best alpha, 0.1, is at the edge of what was tried",
        "does nothing for the answers: b",
    )
    assert remarks(line, alone)[0].startswith("a alone does it: r2 1.0000")

    names = [f"f{number}" for number in range(60)]
    wide = contract_of("line", {one: {} for one in ("a", *names)})
    idle = line.join(pd.DataFrame(0.0, line.index, names))
    last = assemble(idle, wide).description.remarks[-1]
    assert "answers: f0, f1, f2" in last
    assert len(last) <= 200
    # Where all do as much, each does little.
    values = pd.DataFrame(random.normal(size=(200, 61)), columns=["a", *names])
    equal = assemble(values.join(values.sum(axis=1).rename("y")), wide)
    assert not [one for one in equal.description.remarks if "does nothing" in one]


def test_what_stands_on_both_sides_in_time_or_by_its_group_is_told():
    times = pd.date_range("2026-01-01", periods=120, freq="D")
    rows = line_rows().assign(timestamp=times)

    said = "rows are from 2026-01-01 to 2026-04-30 and validation rows are among"
    assert remarks(rows)[0].startswith(said)
    assert remarks(rows, split={"by": "time"}) == ()

    grouped = Contract.model_validate({**LINE_CONTRACT.model_dump(), "group": "shop"})
    shops = line_rows().assign(shop=["a", "b"] * 60)
    (by_hash,) = assemble(shops, grouped).description.remarks
    assert by_hash.startswith("100% of the validation rows share their shop with training rows")
    # The group is that of the contract where no column is named.
    assert assemble(shops, grouped, split={"by": "group"}).description.remarks == ()
