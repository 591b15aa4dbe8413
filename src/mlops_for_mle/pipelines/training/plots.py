"""Pictures of a validation result for people."""

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mlops_for_mle.contract import Contract
from mlops_for_mle.pipelines.training.plot_fonts import drawable, families


def plot_errors(truth: np.ndarray, found: np.ndarray, contract: Contract) -> Figure:
    """Draw the confusion matrix, or predicted against true values for regression."""
    with rc_context({"font.family": families()}):
        return _plot_errors(truth, found, contract)


def plot_report(truth: np.ndarray, found: np.ndarray, contract: Contract) -> Figure:
    """Draw precision, recall and F1 by class, or the residuals for regression."""
    with rc_context({"font.family": families()}):
        return _plot_report(truth, found, contract)


def _plot_errors(truth: np.ndarray, found: np.ndarray, contract: Contract) -> Figure:
    if contract.target.task == "regression":
        return _plot_predicted_against_true(truth, found, contract)
    values = list(contract.target.class_codes)
    names = _class_names(contract)
    counts = confusion_matrix(truth, found, labels=values)
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"Confusion matrix, {len(truth)} validation rows")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure


def _plot_report(truth: np.ndarray, found: np.ndarray, contract: Contract) -> Figure:
    if contract.target.task == "regression":
        return _plot_residuals(truth, found)
    values = list(contract.target.class_codes)
    scores = precision_recall_fscore_support(truth, found, labels=values, zero_division=0)
    table = pd.DataFrame(
        dict(zip(("precision", "recall", "F1"), scores[:3], strict=True)),
        index=[
            f"{name}\n({count} rows)"
            for name, count in zip(_class_names(contract), scores[3], strict=True)
        ],
    )
    figure = Figure(figsize=(max(5.2, 1.4 * len(values)), 3.8), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(values))
    for index, name in enumerate(table.columns):
        bars = axes.bar(positions + (index - 1) * 0.27, table[name], width=0.25, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(positions, table.index)
    axes.set_ylim(0, 1.12)
    axes.set_title("Validation scores by class")
    axes.legend(ncols=3, loc="lower right")
    return figure


def _class_names(contract: Contract) -> list[str]:
    return drawable([one.label for one in contract.target.classes], "class")


def _plot_predicted_against_true(
    truth: np.ndarray, found: np.ndarray, contract: Contract
) -> Figure:
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(truth, found, s=12, alpha=0.6)
    ends = [min(truth.min(), found.min()), max(truth.max(), found.max())]
    axes.plot(ends, ends, linewidth=1, color="grey")
    (column,) = drawable([contract.target.column], "target")
    axes.set_xlabel(f"true {column}")
    axes.set_ylabel("predicted")
    axes.set_title(f"{len(truth)} validation rows")
    return figure


def _plot_residuals(truth: np.ndarray, found: np.ndarray) -> Figure:
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.hist(found - truth, bins=30)
    axes.set_xlabel("predicted minus true")
    axes.set_ylabel("rows")
    axes.set_title("Residuals")
    return figure
