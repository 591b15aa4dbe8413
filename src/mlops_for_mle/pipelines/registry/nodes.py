"""Pure functions of the registry: confirm a candidate, compare it, decide."""

import math

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.metric_names import metric_text
from mlops_for_mle.pipelines.registry.options import GateOptions
from mlops_for_mle.records import Candidate, Decision, Incumbent, ModelVersion

REPRODUCTION_TOLERANCE = 1e-9


def register_candidate(candidate: Candidate) -> Candidate:
    """Hand the candidate on to the registry; saving it there makes the version."""
    return candidate


def confirm_metrics(
    version: ModelVersion, contract: Contract
) -> tuple[ModelVersion, dict[str, float]]:
    """Measure the model that was loaded back and confirm the metrics that training recorded.

    Returns:
        The version and its metrics on its validation rows.

    Raises:
        UserError: They differ, so the version in the registry is not the model that was trained.
    """
    from mlops_for_mle.pipelines.metrics import measure

    found = measure(version.model, version.validation, contract)
    for name, value in found.items():
        recorded = version.passport.metrics.get(f"validation_{name}", math.nan)
        if not math.isclose(
            value, recorded, rel_tol=REPRODUCTION_TOLERANCE, abs_tol=REPRODUCTION_TOLERANCE
        ):
            raise UserError(
                f"Version {version.version} of {version.name}: loaded back, its validation {name} "
                f"is {value:.9g}, but its training recorded {recorded:.9g}; it is not promoted. "
                "Train again: `kedro run --pipeline training`."
            )
    return version, found


def decide(
    version: ModelVersion,
    candidate_metrics: dict[str, float],
    incumbent: Incumbent,
    contract: Contract,
    gates: GateOptions,
) -> Decision:
    """Apply the gates to a candidate, comparing it with the champion on the same rows.

    Raises:
        ConfigurationError: The deciding metric is not one that is measured for the task.
    """
    if gates.metric not in candidate_metrics:
        raise ConfigurationError(
            f"gates.metric: expected one of {', '.join(candidate_metrics)}, which were measured on "
            f"the validation rows of this model (found {gates.metric!r})"
        )
    sign = 1.0 if gates.is_greater_better else -1.0
    value = candidate_metrics[gates.metric]
    if gates.threshold is None:
        reached = True
        reasons = [f"validation {gates.metric} {metric_text(value)}, no threshold is set"]
    else:
        reached = sign * (value - gates.threshold) >= 0
        reasons = [
            f"validation {gates.metric} {metric_text(value)} "
            f"{'meets' if reached else 'misses'} the threshold {metric_text(gates.threshold)}"
        ]
    champion = incumbent.champion
    if champion is None:
        reasons.append("there is no champion to compare with")
        champion_metrics = None
        kept_up = True
    elif champion.version == version.version:
        reasons.append("it is the champion already")
        champion_metrics = candidate_metrics
        kept_up = True
    else:
        champion_metrics = _measure_champion(champion, version, contract)
        if gates.metric not in champion_metrics:
            raise UserError(
                f"Champion version {champion.version} of {version.name} has no {gates.metric}, "
                f"only {', '.join(champion_metrics)}: choose one of them for gates.metric."
            )
        rival = champion_metrics[gates.metric]
        rounding = REPRODUCTION_TOLERANCE * max(1.0, abs(rival))
        kept_up = sign * (value - rival) >= -gates.tolerance - rounding
        reasons.append(
            f"champion version {champion.version} has {metric_text(rival)} on the same rows: "
            f"{'no worse within' if kept_up else 'worse by more than'} the tolerance "
            f"{metric_text(gates.tolerance)}"
        )
    return Decision(
        name=version.name,
        version=version.version,
        run_id=version.run_id,
        promote=reached and kept_up,
        reasons=tuple(reasons),
        candidate_metrics=candidate_metrics,
        champion_version=champion.version if champion is not None else None,
        champion_metrics=champion_metrics,
    )


def _measure_champion(
    champion: ModelVersion, version: ModelVersion, contract: Contract
) -> dict[str, float]:
    from mlops_for_mle.pipelines.metrics import measure

    then, now = champion.passport.contract, contract
    same_answers = (
        then.target.column == now.target.column
        and then.target.task == now.target.task
        and then.target.codes == now.target.codes
    )
    if then.feature_names != now.feature_names or not same_answers:
        raise UserError(
            f"Champion version {champion.version} of {version.name} was trained for other columns "
            f"or classes ({', '.join(then.columns)}), so it cannot be compared on the same "
            "rows. Give the changed contract a new contract.name."
        )
    # By its own contract: a category that is new since then was unknown to it.
    return measure(champion.model, version.validation, then)
