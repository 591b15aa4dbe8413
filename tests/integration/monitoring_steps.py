"""The steps of the pipeline monitoring without a Kedro session, which takes seconds."""

from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from mlops_for_mle.datasets.monitoring_window import PredictionWindowDataset
from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.pipelines.monitoring import nodes
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.records_monitoring import (
    DeployedRelease,
    MonitoringReport,
    ReferenceProfile,
    WindowCounts,
)
from mlops_for_mle.release import Release


@dataclass(frozen=True)
class Look:
    """One look at a release: what was counted and how it was judged."""

    reference: ReferenceProfile
    window: WindowCounts
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
        run = self.run._replace(id=1, created_at=created_at)
        return nodes.write_report(run, self.reference, self.window, self.options)


def look(database_url: str, release: Release, snapshot: pd.DataFrame, **options: object) -> Look:
    """Compare what a release was asked and has answered with its snapshot."""
    monitoring = MonitoringOptions.model_validate(options)
    reference = nodes.describe_reference(DeployedRelease(release, snapshot), monitoring)
    entry = PredictionWindowDataset({"con": database_url})
    entry.save(nodes.plan_window(reference, monitoring))
    window = nodes.take_counts(entry.load())
    run = nodes.judge(
        reference,
        window,
        *(
            check(reference, window, monitoring)
            for check in (
                nodes.check_performance,
                nodes.check_drift,
                nodes.check_data_quality,
                nodes.check_calibration,
            )
        ),
        monitoring,
    )
    return Look(reference, window, run, monitoring)
