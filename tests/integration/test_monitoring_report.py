"""The report of monitoring where MLflow, its database or its place for files does not work."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from mlops_for_mle.datasets.monitoring_runs import MonitoringReportDataset
from mlops_for_mle.errors import UserError
from mlops_for_mle.monitoring_run import MonitoringRun
from mlops_for_mle.records_monitoring import MonitoringReport
from tests.integration.expectations import refused
from tests.integration.servers import ExternalPostgres

pytestmark = pytest.mark.integration

RUN = MonitoringRun(7, "iris", "iris-v1", 1, None, None, 500, 0, "healthy", ())


@pytest.fixture
def entry(
    external_server: ExternalPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MonitoringReportDataset]:
    """The catalog's entry, with an MLflow store on a server that can be stopped."""
    url = external_server.create_database()
    before = mlflow.get_tracking_uri()
    # MLflow sets the variable too, and keeps files below the folder where it runs.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(url)
    yield MonitoringReportDataset(str(tmp_path / "monitoring.html"), "watched")
    mlflow.set_tracking_uri(before)


def test_a_database_that_fails_while_the_report_is_logged_is_told_in_one_sentence(
    entry: MonitoringReportDataset, external_server: ExternalPostgres
) -> None:
    entry.save(MonitoringReport(RUN, "<html>first</html>"))
    external_server.stop("immediate")
    try:
        with refused(UserError) as refusal:
            entry.save(MonitoringReport(RUN, "<html>second</html>"))
    finally:
        external_server.start()

    assert "MLflow" in refusal.message
    assert "SELECT" not in refusal.message
    assert entry.load() == "<html>second</html>"


def test_a_report_that_cannot_be_stored_is_told_in_one_sentence(
    entry: MonitoringReportDataset, tmp_path: Path
) -> None:
    (tmp_path / "mlruns").write_text("a file, where MLflow needs a folder")

    with refused(UserError) as refusal:
        entry.save(MonitoringReport(RUN, "<html>first</html>"))

    path = tmp_path / "monitoring.html"
    assert refusal.message.startswith(f"{path} was written, but MLflow cannot be used: ")
