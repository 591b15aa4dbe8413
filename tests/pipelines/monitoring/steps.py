"""The steps of the pipeline monitoring without a Kedro session, which takes seconds."""

from typing import NamedTuple

import pandas as pd

from mlops_for_mle.pipelines.monitoring.checks import MonitoringRun, judge
from mlops_for_mle.pipelines.monitoring.counting import PredictionLog, Window, count_window
from mlops_for_mle.pipelines.monitoring.datasets import PredictionLogDataset
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.reference import Deployed, Reference, describe_reference
from mlops_for_mle.pipelines.monitoring.report import write_report
from mlops_for_mle.releases.manifest import Release
from tests.pipelines.monitoring.traffic import trained_on
from tests.releases import IRIS_CONTRACT


class Look(NamedTuple):
    """One look at a release: what was counted, how it was judged, and the report of it."""

    reference: Reference
    windows: dict[str, Window]
    run: MonitoringRun
    report: str

    @property
    def window(self) -> Window:
        """All of the window."""
        return self.windows[""]


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
    run = judge(reference, windows, monitoring)
    return Look(reference, windows, run, write_report(run, reference, windows, monitoring))
