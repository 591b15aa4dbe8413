"""What the process has imported that commands are forked from; see ``commands.fork``.

Of the two seconds that a command takes to start, nearly all go into these imports.
"""

import gc
from functools import cache
from importlib import import_module, metadata

import importlib_metadata

# The first one decides what libraries may say and send, before they are imported.
for name in (
    "mlops_for_mle.settings",
    "mlops_for_mle.cli",
    "mlops_for_mle.commands.database",
    "mlops_for_mle.commands.model",
    "mlops_for_mle.pipeline_registry",
    "mlops_for_mle.pipelines.data_ingestion.datasets",
    "mlops_for_mle.pipelines.training.datasets",
    "mlops_for_mle.pipelines.training.report",
    "alembic.command",
    "ipykernel.ipkernel",
    "kedro.framework.context",
    "kedro_datasets.json.json_dataset",
    "kedro_datasets.matplotlib.matplotlib_dataset",
    "kedro_datasets.pandas.parquet_dataset",
    "kedro_mlflow.framework.cli.cli",
    "kedro_mlflow.framework.hooks.mlflow_hook",
    "kedro_telemetry.plugin",
    "kedro_viz.integrations.kedro.run_hooks",
    "kedro_viz.launchers.cli.main",
    "matplotlib.backends.backend_agg",
    "mlflow.pyfunc.scoring_server",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.tracing.processor.base_mlflow",
    "IPython",
    "git",
    "httpx",
    "onnxruntime",
    "pytest",
    "sklearn.svm",
    "skl2onnx",
    "skops.io",
    "tests.end_to_end.commands",
):
    import_module(name)
# Kedro reads what all packages offer three times, and MLflow at each training what they hold.
metadata.entry_points = cache(metadata.entry_points)
importlib_metadata.packages_distributions = cache(importlib_metadata.packages_distributions)
importlib_metadata.packages_distributions()
# Else each process would look through all that was imported.
gc.freeze()
