"""From what was measured to the state of the release."""

from collections.abc import Sequence
from math import isfinite

from mlops_for_mle.monitoring_run import MonitoringMetric, MonitoringRun, Status
from mlops_for_mle.pipelines.monitoring.checks import Check, Findings, Severity, holm
from mlops_for_mle.records_monitoring import ReferenceProfile, WindowCounts

_TOLD = ("alarm", "warning")


def judge(
    reference: ReferenceProfile,
    window: WindowCounts,
    findings: dict[str, Findings],
    significance: float,
) -> MonitoringRun:
    """Correct all tests together, and sum up.

    What a test was made for counts only where its corrected p-value is below the significance.

    Args:
        reference: Names the release.
        window: What was looked at.
        findings: By area, in the order in which their reasons are told; ``drift`` and
            ``performance`` are among them.
        significance: The chance of any false alarm in the run.
    """
    checks = [check for found in findings.values() for check in found.checks]
    tested = [check for check in checks if check.p_value is not None]
    corrected = dict(
        zip(map(id, tested), holm([check.p_value or 0.0 for check in tested]), strict=True)
    )
    judged = [
        (check, corrected.get(id(check)), _severity(check, corrected.get(id(check)), significance))
        for check in checks
    ]
    severities = {severity for _, _, severity in judged}
    reasons = [
        _sentence(check, p_value, severity)
        for level in _TOLD
        for check, p_value, severity in judged
        if severity == level
    ]
    gaps = {area: found.gap for area, found in findings.items() if found.gap}
    return MonitoringRun(
        id=None,
        contract=reference.contract.name,
        release=reference.release,
        model_version=reference.model_version,
        window_from=window.window_from,
        window_to=window.window_to,
        prediction_count=window.row_count,
        labelled_count=window.labelled_count,
        status=_status(severities, is_drift_judged="drift" not in gaps),
        labelled_from=window.labelled_from,
        labelled_to=window.labelled_to,
        reasons=tuple(reasons) + _rest(reasons, gaps, reference, window),
        metrics=tuple(_metric(*one) for one in judged),
    )


def _status(severities: set[Severity], *, is_drift_judged: bool) -> Status:
    if "alarm" in severities:
        return "alarm"
    if "warning" in severities:
        return "warning"
    return "healthy" if is_drift_judged else "insufficient"


def _severity(check: Check, p_value: float | None, significance: float) -> Severity:
    is_confirmed = p_value is None or p_value < significance
    return check.severity if is_confirmed else check.unconfirmed


def _sentence(check: Check, p_value: float | None, severity: Severity) -> str:
    message = check.message[0].upper() + check.message[1:]
    if p_value is None:
        return f"{message}."
    shown = f"p {p_value:.2g}" if p_value >= 0.001 else "p below 0.001"
    doubt = "" if severity == check.severity else ", which may be chance"
    return f"{message}; {shown}{doubt}."


def _rest(
    reasons: Sequence[str],
    gaps: dict[str, str],
    reference: ReferenceProfile,
    window: WindowCounts,
) -> tuple[str, ...]:
    """What could not be judged; where nothing is wrong, that."""
    told = []
    if not reasons and "drift" not in gaps:
        told.append(
            f"{window.row_count} predictions look like the {reference.row_count} rows of the "
            "training snapshot."
        )
    told += [
        f"{area.capitalize()} is not judged: {gap}."
        for area, gap in sorted(gaps.items())
        if area in {"drift", "performance"}
    ]
    return tuple(told)


def _metric(check: Check, p_value: float | None, severity: Severity) -> MonitoringMetric:
    return MonitoringMetric(
        area=check.area,
        subject=check.subject,
        metric=check.metric,
        value=check.value if check.value is None or isfinite(check.value) else None,
        lower=check.lower,
        upper=check.upper,
        threshold=check.threshold,
        p_value=p_value,
        is_alarm=severity == "alarm",
    )
