"""Pure functions of the registry: measure a candidate and its rivals, then apply the gates."""

import math
from dataclasses import dataclass, field

import pandas as pd

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.contract.columns import encode_rows, to_array
from mlops_for_mle.contract.encoding import encode_target
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.registry.options import GateOptions
from mlops_for_mle.releases.manifest import ModelDescription, Release
from mlops_for_mle.releases.metrics import ALL_METRICS, baseline, measure, metric_text
from mlops_for_mle.releases.predictor import Predictor

# Metrics that lie closer together, relative to their size, are the same.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class LoggedCandidate:
    """A model as training has logged it: its graph, and the rows that it was measured on."""

    run_id: str
    model_uri: str
    description: ModelDescription
    model: bytes = field(repr=False)
    validation: pd.DataFrame = field(repr=False)


class Comparison(Configuration):
    """A candidate and what it has to beat, measured on the candidate's validation rows.

    Attributes:
        name: The registered model, which is called like the contract.
        champion_version: None where there is no champion.
        metrics: Of ``candidate``, of ``baseline`` (a constant answer) and of ``champion``, where
            that is another model.
    """

    name: str
    run_id: str
    model_uri: str
    champion_version: int | None
    metrics: dict[str, dict[str, float]]


class Decision(Comparison):
    """Whether the candidate becomes champion, with a sentence for each gate."""

    promote: bool
    reasons: tuple[str, ...]


def compare_models(candidate: LoggedCandidate, incumbent: Release | None) -> Comparison:
    """Measure candidate, constant answer and champion, and confirm what training has recorded."""
    contract, rows = candidate.description.contract, candidate.validation
    target = contract.target
    truth = encode_target(to_array(rows[target.column], target.feature), target)

    def measured(model: bytes, own: Contract) -> dict[str, float]:
        return measure(Predictor(model, own).predict(encode_rows(rows, own)), truth, target)

    metrics = {
        "candidate": measured(candidate.model, contract),
        "baseline": measure(baseline(truth, target), truth, target),
    }
    for name, value in metrics["candidate"].items():
        recorded = candidate.description.metrics.get(f"validation_{name}", math.nan)
        if not math.isclose(value, recorded, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
            raise UserError(
                f"The model of run {candidate.run_id}: loaded back, its validation {name} is "
                f"{value:.9g}, but its training recorded {recorded:.9g}; it is not registered. "
                "Train again: `kedro run --pipeline training`."
            )
    champion = None if incumbent is None else incumbent.manifest
    if incumbent is not None and champion is not None and champion.run_id != candidate.run_id:
        then = champion.contract
        answers = [
            (one.target.column, one.target.task, one.target.codes) for one in (then, contract)
        ]
        if then.feature_names != contract.feature_names or answers[0] != answers[1]:
            raise UserError(
                f"Champion version {champion.version} of {contract.name} was trained for other "
                f"columns or classes ({', '.join(then.columns)}), so it cannot be compared on the "
                "same rows. Give the changed contract a new contract.name."
            )
        # By its own contract: a category that is new since then was unknown to it.
        metrics["champion"] = measured(incumbent.model, then)
    return Comparison(
        name=contract.name,
        run_id=candidate.run_id,
        model_uri=candidate.model_uri,
        champion_version=None if champion is None else champion.version,
        metrics=metrics,
    )


def apply_gates(comparison: Comparison, gates: GateOptions) -> Decision:
    """Promote what reaches the threshold, keeps up with the champion and has learned something."""
    measured: dict[str, float] = {}
    for of, found in comparison.metrics.items():
        if gates.metric not in found:
            raise ConfigurationError(
                f"gates.metric: {gates.metric} was not measured on the validation rows of the {of},"
                f" expected is one of {', '.join(found)}"
            )
        measured[of] = found[gates.metric]
    sign = 1.0 if ALL_METRICS[gates.metric] else -1.0
    value, constant = measured["candidate"], measured["baseline"]
    reasons = []

    reached = gates.threshold is None or sign * (value - gates.threshold) >= 0
    verdict = ", no threshold is set"
    if gates.threshold is not None:
        verdict = (
            f" {'meets' if reached else 'misses'} the threshold {metric_text(gates.threshold)}"
        )
    reasons.append(f"validation {gates.metric} {metric_text(value)}{verdict}")

    rival = measured.get("champion", value)
    kept_up = sign * (value - rival) >= -gates.tolerance - _ROUNDING * abs(rival)
    if comparison.champion_version is None:
        reasons.append("there is no champion to compare with")
    elif "champion" not in measured:
        reasons.append("it is the champion already")
    else:
        reasons.append(
            f"champion version {comparison.champion_version} has {metric_text(rival)} on the same "
            f"rows: {'no worse within' if kept_up else 'worse by more than'} the tolerance "
            f"{metric_text(gates.tolerance)}"
        )

    has_learned = sign * (value - constant) > _ROUNDING * abs(constant)
    better = "better" if has_learned else "no better"
    reasons.append(f"{better} than a constant answer, {metric_text(constant)}")
    return Decision(
        **comparison.model_dump(),
        promote=reached and kept_up and has_learned,
        reasons=tuple(reasons),
    )
