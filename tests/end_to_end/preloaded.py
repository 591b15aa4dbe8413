"""What the process has imported that commands are forked from; see ``commands.fork``.

Of the two seconds that a command takes to start, nearly all go into these imports.
"""

import gc
import inspect
from importlib import import_module

# The first one decides what libraries may say and send, before they are imported.
for name in (
    "mlops_for_mle.settings",
    "mlops_for_mle.cli",
    "mlops_for_mle.commands.database",
    "mlops_for_mle.commands.model",
    "mlops_for_mle.pipeline_registry",
    "kedro.framework.context",
    "kedro_datasets.json.json_dataset",
    "kedro_datasets.matplotlib.matplotlib_dataset",
    "kedro_datasets.pandas.parquet_dataset",
    "kedro_mlflow.framework.cli.cli",
    "kedro_mlflow.framework.hooks.mlflow_hook",
    "kedro_telemetry.plugin",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
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
# Dynaconf does this, too, for which Python looks for the file of every module, once.
inspect.stack()
# Else each process would look through all that was imported.
gc.freeze()
