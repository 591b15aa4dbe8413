"""From what was measured to the state of the release."""

from dataclasses import replace
from math import isfinite

from mlops_for_mle.pipelines.monitoring.checks import Check, Checks, Severity
from mlops_for_mle.pipelines.monitoring.inference import holm
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.record import MonitoringRun, Status
from mlops_for_mle.pipelines.monitoring.reference import Reference
from mlops_for_mle.pipelines.monitoring.window import Window


def judge(
    reference: Reference,
    window: Window,
    performance: Checks,
    drift: Checks,
    data_quality: Checks,
    calibration: Checks,
    monitoring: MonitoringOptions,
) -> MonitoringRun:
    """Correct all tests together and say in which state the release is.

    What a test was made for counts only where its corrected p-value is below the significance.
    """
    checks = _corrected((*performance, *drift, *data_quality, *calibration))
    judged = [(check, _severity(check, monitoring.significance)) for check in checks]
    severities = {severity for _, severity in judged}
    is_enough = window.row_count >= monitoring.window.minimum_rows
    status: Status = "healthy" if is_enough else "insufficient"
    if severities - {"none"}:
        status = "alarm" if "alarm" in severities else "warning"
    reasons = [
        _sentence(check, severity)
        for level in ("alarm", "warning")
        for check, severity in judged
        if severity == level
    ]
    return MonitoringRun(
        contract=reference.contract.name,
        release=reference.manifest.release,
        model_version=reference.manifest.version,
        window_from=window.window_from,
        window_to=window.window_to,
        prediction_count=window.row_count,
        labelled_count=window.labelled_count,
        labelled_from=window.labelled_from,
        labelled_to=window.labelled_to,
        status=status,
        reasons=tuple(reasons) + _rest(reference, window, monitoring, is_calm=not reasons),
        metrics=tuple(
            replace(
                check,
                value=check.value if check.value is None or isfinite(check.value) else None,
                is_alarm=severity == "alarm",
            )
            for check, severity in judged
        ),
    )


def _corrected(checks: Checks) -> Checks:
    p_values = iter(holm([one.p_value for one in checks if one.p_value is not None]))
    return tuple(
        one if one.p_value is None else replace(one, p_value=next(p_values)) for one in checks
    )


def _severity(check: Check, significance: float) -> Severity:
    is_confirmed = check.p_value is None or check.p_value < significance
    return check.severity if is_confirmed else check.if_chance


def _sentence(check: Check, severity: Severity) -> str:
    message = check.message[0].upper() + check.message[1:]
    if check.p_value is None:
        return f"{message}."
    shown = f"p {check.p_value:.2g}" if check.p_value >= 0.001 else "p below 0.001"
    doubt = "" if severity == check.severity else ", which may be chance"
    return f"{message}; {shown}{doubt}."


def _rest(
    reference: Reference, window: Window, monitoring: MonitoringOptions, *, is_calm: bool
) -> tuple[str, ...]:
    """What could not be judged; where nothing is wrong, that."""
    rows, needed = window.row_count, monitoring.window.minimum_rows
    told = []
    if rows < needed:
        told = [f"Drift is not judged: {rows} of the {needed} predictions that drift needs."]
    elif is_calm:
        trained_on = reference.manifest.snapshot.row_count
        told = [f"{rows} predictions look like the {trained_on} rows of the training snapshot."]
    labelled, needed = window.labelled_count, monitoring.window.minimum_labelled
    if labelled < needed:
        told.append(
            f"Performance is not judged: {labelled} of the {needed} labelled predictions that "
            "performance needs."
        )
    return tuple(told)
