"""The steps of the pipeline monitoring without a Kedro session, which takes seconds."""

from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd

from mlops_for_mle.pipelines.monitoring.checks import judge
from mlops_for_mle.pipelines.monitoring.counting import PredictionLog, Window, count_window
from mlops_for_mle.pipelines.monitoring.datasets import PredictionLogDataset
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.record import MonitoringRun
from mlops_for_mle.pipelines.monitoring.reference import Deployed, Reference, describe_reference
from mlops_for_mle.pipelines.monitoring.report import write_report
from mlops_for_mle.releases.manifest import Release
from tests.pipelines.monitoring.traffic import trained_on
from tests.releases import IRIS_CONTRACT


@dataclass(frozen=True)
class Look:
    """One look at a release: what was counted and how it was judged."""

    reference: Reference
    windows: dict[str, Window]
    run: MonitoringRun
    options: MonitoringOptions

    @property
    def window(self) -> Window:
        """All of the window."""
        return self.windows[""]

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

    def report(self, created_at: datetime) -> str:
        run = replace(self.run, id=1, created_at=created_at)
        return write_report(run, self.reference, self.windows, self.options)[1]


def prediction_log(database_url: str) -> PredictionLog:
    """The log of a database; whose it is, every question says."""
    return PredictionLogDataset(IRIS_CONTRACT.model_dump(mode="json"), {"con": database_url}).load()


def look(
    database_url: str,
    release: Release,
    snapshot: pd.DataFrame,
    validation: pd.DataFrame | None = None,
    **options: object,
) -> Look:
    """Compare what a release was asked and has answered with the rows it was trained on."""
    monitoring = MonitoringOptions.model_validate(options)
    validated = snapshot if validation is None else validation
    deployed = Deployed(trained_on(release, snapshot), snapshot, validated)
    reference = describe_reference(deployed, monitoring)
    windows = count_window(reference, prediction_log(database_url), monitoring)
    return Look(reference, windows, judge(reference, windows, monitoring), monitoring)
