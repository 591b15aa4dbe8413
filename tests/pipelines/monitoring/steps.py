"""The steps of the pipeline monitoring without a Kedro session, which takes seconds."""

from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd

from mlops_for_mle.pipelines.monitoring import checks
from mlops_for_mle.pipelines.monitoring.counting import PredictionTable
from mlops_for_mle.pipelines.monitoring.judgement import judge
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.record import MonitoringRun
from mlops_for_mle.pipelines.monitoring.reference import Reference, describe_reference
from mlops_for_mle.pipelines.monitoring.report import MonitoringReport, write_report
from mlops_for_mle.pipelines.monitoring.window import Window
from mlops_for_mle.releases.manifest import Release
from tests.pipelines.monitoring.traffic import trained_on


@dataclass(frozen=True)
class Look:
    """One look at a release: what was counted and how it was judged."""

    reference: Reference
    window: Window
    run: MonitoringRun
    options: MonitoringOptions

    @property
    def alarms(self) -> set[tuple[str, str]]:
        """Subject and metric of each alarm."""
        return {(one.subject, one.metric) for one in self.run.metrics if one.is_alarm}

    def value(self, area: str, subject: str, metric: str) -> float | None:
        (found,) = (
            one.value
            for one in self.run.metrics
            if (one.area, one.subject, one.metric) == (area, subject, metric)
        )
        return found

    def report(self, created_at: datetime) -> MonitoringReport:
        run = replace(self.run, id=1, created_at=created_at)
        return write_report(run, self.reference, self.window, self.options)


def look(database_url: str, release: Release, snapshot: pd.DataFrame, **options: object) -> Look:
    """Compare what a release was asked and has answered with the rows it was trained on."""
    monitoring = MonitoringOptions.model_validate(options)
    reference = describe_reference((trained_on(release, snapshot), snapshot), monitoring)
    window = PredictionTable(database_url).count(reference, monitoring.window)
    return Look(reference, window, assess(reference, window, monitoring), monitoring)


def assess(reference: Reference, window: Window, monitoring: MonitoringOptions) -> MonitoringRun:
    """Do all checks, and judge."""
    found = (
        check(reference, window, monitoring)
        for check in (
            checks.check_performance,
            checks.check_drift,
            checks.check_data_quality,
            checks.check_calibration,
        )
    )
    return judge(reference, window, *found, monitoring)
