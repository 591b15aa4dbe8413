"""Pure functions of monitoring: a reference and counts in, a judged run and its report out.

Statistics and the template library are imported inside the functions, because every `kedro`
command imports this module.
"""

from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.pipelines.monitoring.checks import Findings
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.records_monitoring import (
    DeployedRelease,
    MonitoringReport,
    ReferenceProfile,
    WindowCounts,
    WindowPlan,
)


def describe_reference(
    deployed: DeployedRelease, monitoring: MonitoringOptions
) -> ReferenceProfile:
    """Describe the rows that the deployed release was trained on, and its answers for them."""
    from mlops_for_mle.pipelines.monitoring.profile import describe

    return describe(deployed, monitoring.drift.bins)


def plan_window(reference: ReferenceProfile, monitoring: MonitoringOptions) -> WindowPlan:
    """Say which predictions are counted, and into which bins.

    Only those that the deployed release has answered: after a deployment, what an earlier version
    did is not laid to the new one's charge.
    """
    window = monitoring.window
    return WindowPlan(
        reference=reference,
        row_limit=window.rows,
        hours=window.hours,
        until=window.until,
        confidence_bins=monitoring.calibration.bins,
    )


def take_counts(window: WindowCounts) -> WindowCounts:
    """Hand the counts on; reading them from the catalog has counted, once."""
    return window


def check_data_quality(
    reference: ReferenceProfile, window: WindowCounts, monitoring: MonitoringOptions
) -> Findings:
    """Look for missing, wrong, old, few and repeated values."""
    from mlops_for_mle.pipelines.monitoring.quality import check_quality

    return check_quality(reference, window, monitoring)


def check_drift(
    reference: ReferenceProfile, window: WindowCounts, monitoring: MonitoringOptions
) -> Findings:
    """Compare features and predictions with the reference."""
    from mlops_for_mle.pipelines.monitoring.drift import check_drift as check

    return check(reference, window, monitoring)


def check_performance(
    reference: ReferenceProfile, window: WindowCounts, monitoring: MonitoringOptions
) -> Findings:
    """Measure the answers by the labels that have arrived."""
    from mlops_for_mle.pipelines.monitoring.performance import check_performance as check

    return check(reference, window, monitoring)


def check_calibration(
    reference: ReferenceProfile, window: WindowCounts, monitoring: MonitoringOptions
) -> Findings:
    """Compare probabilities with how often the answers were right."""
    from mlops_for_mle.pipelines.monitoring.calibration import check_calibration as check

    return check(reference, window, monitoring)


def judge(
    reference: ReferenceProfile,
    window: WindowCounts,
    performance: Findings,
    drift: Findings,
    data_quality: Findings,
    calibration: Findings,
    monitoring: MonitoringOptions,
) -> MonitoringRun:
    """Correct all tests together and say in which state the release is."""
    from mlops_for_mle.pipelines.monitoring.judgement import judge as sum_up

    findings = {
        "performance": performance,
        "drift": drift,
        "data quality": data_quality,
        "calibration": calibration,
    }
    return sum_up(reference, window, findings, monitoring.significance)


def write_report(
    run: MonitoringRun,
    reference: ReferenceProfile,
    window: WindowCounts,
    monitoring: MonitoringOptions,
) -> MonitoringReport:
    """Write a recorded run for people."""
    from mlops_for_mle.pipelines.monitoring.report import render

    return MonitoringReport(run, render(run, reference, window, monitoring))
