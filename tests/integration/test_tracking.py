"""Which pipelines MLflow is told of."""

from types import SimpleNamespace
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro_mlflow.io.metrics import MlflowMetricDataset

from mlops_for_mle.tracking import DeferredMlflowHook


class Configuration(dict[str, Any]):
    """Configuration that names a store which no test may open."""

    def __missing__(self, key: str) -> Any:
        tracking = {"disable_tracking": {"pipelines": ["untracked"]}}
        return {"server": {"mlflow_tracking_uri": "http://127.0.0.1:1"}, "tracking": tracking}


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> DeferredMlflowHook:
    from mlflow.tracking._tracking_service import utils

    # So that it is put back afterwards.
    monkeypatch.setattr(utils, "_tracking_uri", utils._tracking_uri)
    hook = DeferredMlflowHook()
    hook.after_context_created(SimpleNamespace(config_loader=Configuration()))
    return hook


def test_an_untracked_pipeline_opens_no_run_and_makes_no_entry_of_others(
    hook: DeferredMlflowHook,
) -> None:
    import mlflow

    catalog = DataCatalog.from_config(
        {
            "error": {"type": "kedro_mlflow.io.metrics.MlflowMetricDataset", "key": "error"},
            "of_another": {"type": "pandas.CSVDataset", "filepath": "rows.csv"},
        }
    )
    catalog["rows"] = MemoryDataset(1.0)
    line = pipeline([node(lambda rows: rows, "rows", "error", name="measure")])
    parameters = {"pipeline_name": "untracked"}

    hook.before_pipeline_run(parameters, line, catalog)
    hook.before_node_run(line.nodes[0], catalog, {"params:a": 1}, is_async=False)
    catalog.save("error", 1.0)
    hook.after_pipeline_run(parameters, line, catalog)

    assert isinstance(catalog.get("error"), MlflowMetricDataset)
    assert mlflow.active_run() is None
    assert "of_another" in catalog._lazy_datasets
