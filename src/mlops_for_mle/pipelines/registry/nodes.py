"""Pure functions of the registry: measure a candidate and the champion, then apply the gates."""

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pydantic import Field

from mlops_for_mle.contract import Configuration
from mlops_for_mle.contract.columns import encode_rows, encode_target
from mlops_for_mle.contract.model import Target
from mlops_for_mle.contract.rules import Column
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.releases.manifest import ModelDescription, Release
from mlops_for_mle.releases.metrics import (
    ALL_METRICS,
    baseline,
    format_metric,
    measure,
    measure_baseline,
    measure_one,
)
from mlops_for_mle.releases.predictor import Predictions, Predictor

# Metrics that lie closer together, relative to their size, are the same.
_ROUNDING = 1e-6
# With more rows, chance moves a metric by less than any tolerance that is worth setting.
_FEW_ROWS = 1_000
_RESAMPLES = 200
_BOUNDS = (0.05, 0.95)


class GateOptions(Configuration):
    """What a candidate must show to become champion, besides that it has learned something.

    Attributes:
        metric: The metric that decides. For classification ``accuracy``, ``balanced_accuracy``,
            ``macro_f1``, and of models with probabilities ``log_loss``, ``roc_auc``, ``brier``;
            for regression ``rmse``, ``mae``, ``r2``.
        threshold: The candidate must reach it on its validation rows; null sets no such bound.
        tolerance: By how much the candidate may be worse than the champion on the same rows.
    """

    metric: str
    threshold: float | None = None
    tolerance: float = Field(default=0.0, ge=0)


@dataclass(frozen=True)
class LoggedCandidate:
    """A model as training has logged it: its graph, and the rows that it was measured on."""

    run_id: str
    model_uri: str
    description: ModelDescription
    model: bytes = field(repr=False)
    validation: pd.DataFrame = field(repr=False)


class Decision(Configuration):
    """Whether a candidate becomes champion, and a sentence for each gate."""

    run_id: str
    model_uri: str
    promote: bool
    reasons: tuple[str, ...]


def compare_models(
    candidate: LoggedCandidate, incumbent: Release | None, gates: GateOptions
) -> Decision:
    """Measure candidate, constant answer and champion; confirm what training has recorded."""
    description, rows = candidate.description, candidate.validation
    contract, target = description.contract, description.contract.target
    truth = encode_target(rows, target)
    predictions = _predict(candidate.model, description, rows)
    metrics = {
        "candidate": measure(predictions, truth, target),
        "baseline": measure_baseline(truth, target),
    }
    for name, value in metrics["candidate"].items():
        recorded = description.metrics.get(f"validation_{name}", math.nan)
        if not math.isclose(value, recorded, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
            raise UserError(
                f"The model of run {candidate.run_id}: loaded back, its validation {name} is "
                f"{value:.9g}, but its training recorded {recorded:.9g}; it is not registered. "
                "Train again: `kedro run --pipeline training`."
            )
    version, champion_predictions, gain_interval = None, None, None
    if incumbent is not None:
        champion = incumbent.manifest
        version, champion_target = champion.version, champion.contract.target
        trained_for = champion_target.column, champion_target.task, champion_target.codes
        is_same = trained_for == (target.column, target.task, target.codes)
        # What is new in the contract is nothing to the champion, which reads its own columns.
        if not is_same or champion.contract.features.keys() - contract.features.keys():
            raise UserError(
                f"Champion version {version} of {contract.name} was trained for other columns or "
                "classes, so it cannot be compared on the same rows. Give the changed contract a "
                "new contract.name."
            )
        if champion.run_id != candidate.run_id:
            champion_predictions = _predict_by_champion(incumbent, rows, truth)
            metrics["champion"] = measure(champion_predictions, truth, target)
    for model, measured in metrics.items():
        if gates.metric not in measured:
            raise ConfigurationError(
                f"gates.metric: {gates.metric} was not measured on the validation rows of the "
                f"{model}, expected is one of {', '.join(measured)}"
            )
    if champion_predictions is not None and len(truth) <= _FEW_ROWS:
        gain_interval = _bootstrap(gates.metric, predictions, champion_predictions, truth, target)
    verdicts = apply_gates(metrics, gates, version, gain_interval)
    return Decision(
        run_id=candidate.run_id,
        model_uri=candidate.model_uri,
        promote=all(verdicts.values()),
        reasons=tuple(verdicts),
    )


def _predict(model: bytes, description: ModelDescription, rows: pd.DataFrame) -> Predictions:
    """By the model's own contract: a category that is newer is unknown to it."""
    contract = description.contract
    return Predictor(model, contract, description.threshold).predict(encode_rows(rows, contract))


def _predict_by_champion(champion: Release, rows: pd.DataFrame, truth: Column) -> Predictions:
    """What a champion predicts; where it takes no missing value and there is one, a constant."""
    contract = champion.manifest.contract
    required = [name for name, feature in contract.features.items() if not feature.is_optional]
    is_refused = rows[required].isna().any(axis="columns").to_numpy()
    values, probabilities = _predict(champion.model, champion.manifest, rows)
    constant, shares = baseline(truth, contract.target)
    values = np.where(is_refused, constant, values)
    if probabilities is not None and shares is not None:
        probabilities = np.where(is_refused[:, None], shares, probabilities)
    return Predictions(values, probabilities)


def _bootstrap(
    metric: str, candidate: Predictions, champion: Predictions, truth: Column, target: Target
) -> tuple[float, float]:
    """The bounds of how much better the candidate is on rows that are drawn again, by class."""
    from sklearn.utils import resample

    sign, rows = 1.0 if ALL_METRICS[metric] else -1.0, np.arange(len(truth))
    strata, gains = truth if target.classes else None, []
    for seed in range(_RESAMPLES):
        drawn = resample(rows, stratify=strata, random_state=seed)
        candidate_metric = measure_one(metric, candidate.take(drawn), truth[drawn], target)
        champion_metric = measure_one(metric, champion.take(drawn), truth[drawn], target)
        gains.append(sign * (candidate_metric - champion_metric))
    low, high = np.quantile(gains, _BOUNDS).tolist()
    return low, high


def apply_gates(
    metrics: dict[str, dict[str, float]],
    gates: GateOptions,
    champion_version: int | None,
    gain_interval: tuple[float, float] | None = None,
) -> dict[str, bool]:
    """A sentence for each gate, and whether it is passed; ``gain_interval`` is of ``_bootstrap``.

    A candidate must reach the threshold, keep up with the champion (of few rows it does, too, where
    chance alone can have made it worse) and have learned something.
    """
    metric = gates.metric
    measured = {model: values[metric] for model, values in metrics.items()}
    sign = 1.0 if ALL_METRICS[metric] else -1.0
    value, constant = measured["candidate"], measured["baseline"]

    reached, bound = True, ", no threshold is set"
    if gates.threshold is not None:
        reached = sign * (value - gates.threshold) >= 0
        verb = "meets" if reached else "misses"
        bound = f" {verb} the threshold {format_metric(gates.threshold)}"

    is_no_worse, comparison = True, "it is the champion already"
    if champion_version is None:
        comparison = "there is no champion to compare with"
    elif "champion" in measured:
        champion, by_chance = measured["champion"], ""
        allowed = -gates.tolerance - _ROUNDING * abs(champion)
        is_no_worse = is_within = sign * (value - champion) >= allowed
        if gain_interval is not None:
            is_no_worse |= gain_interval[1] >= allowed
            low, high = map(format_metric, gain_interval)
            by_chance = ", which may be chance" if is_no_worse > is_within else ""
            by_chance += f" (on rows drawn again it gains from {low} to {high})"
        comparison = (
            f"champion version {champion_version} has {format_metric(champion)} on the same rows: "
            f"{'no worse within' if is_within else 'worse by more than'} the tolerance "
            f"{format_metric(gates.tolerance)}{by_chance}"
        )

    has_learned = sign * (value - constant) > _ROUNDING * abs(constant)
    better = "better" if has_learned else "no better"
    return {
        f"validation {metric} {format_metric(value)}{bound}": reached,
        comparison: is_no_worse,
        f"{better} than a constant answer, {format_metric(constant)}": has_learned,
    }
