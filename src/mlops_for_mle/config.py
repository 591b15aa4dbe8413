"""What ``conf`` holds and may ask for: globals, parameters, and where servers and stores are.

An environment of ``conf`` says only what differs from ``conf/base``: globals and parameters are
merged key by key. A contract is replaced as a whole, since features of two tables make no third.
"""

import difflib
import os
from collections.abc import Callable, Collection, Iterable
from functools import reduce
from operator import getitem
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from pydantic import ConfigDict, NonNegativeInt, PositiveInt
from yaml import YAMLError

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.paths import project_path

BLOCKS = (
    *("contract", "ingestion", "training", "data_checks", "gates"),
    *("retraining", "monitoring", "scoring"),
)
"""The blocks of parameters; the class that a node takes says what may stand in each."""

# Resolvers belong to the process, whose threads may each read conf, as those of Kedro's server.
_CONFIG_LOCK = RLock()

# Finds train and ingest for training and ingestion, and leaves tracking alone.
_SIMILARITY_CUTOFF = 0.76


class Globals(Configuration):
    """The catalog's settings, from ``globals.yml``, which explains each, or ``--params``."""

    # Strict, since the catalog passes a value on as it stands.
    model_config = ConfigDict(extra="allow", strict=True, str_min_length=1)

    source: Literal["dataset", "generator", "csv", "parquet", "excel", "json", "table", "query"]
    dataset: str
    rows: PositiveInt
    seed: NonNegativeInt | None
    csv_path: str
    csv_encoding: str
    csv_separator: str
    csv_header: bool
    csv_quotes: str
    csv_skip_lines: NonNegativeInt
    csv_comments: list[str]
    parquet_path: str
    excel_path: str
    excel_sheet: str | None
    json_path: str
    source_table: str | None
    source_query: str | None
    row_limit: PositiveInt | None
    watermark: PositiveInt | None
    training_csv: str | None
    experiment: str
    data_folder: str


class ProjectConfigLoader(OmegaConfigLoader):
    """Kedro's loader, with ``${parameters:block}`` for the catalog and checked globals."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._parameters: Any = None
        with _CONFIG_LOCK:
            super().__init__(*args, **options)
        if self._globals:
            known = Globals.model_fields
            runtime = {name: value for name, value in self.runtime_params.items() if name in known}
            _refuse_misspellings(self._globals, known)
            self["globals"] = Globals.model_validate(self._globals | runtime).model_dump()

    def __getitem__(self, key: str) -> dict[str, Any]:
        try:
            with _CONFIG_LOCK:
                # A loader of another environment may have come since.
                OmegaConf.register_resolver("globals", self._get_globals_value, replace=True)
                OmegaConf.register_resolver("parameters", self._block, replace=True)
                if key in ("catalog", "parameters"):
                    # Read once, since the entries of a catalog ask for them again and again.
                    self._parameters = self._read_parameters()
                found = self._parameters if key == "parameters" else super().__getitem__(key)
                if key == "mlflow" and not found["server"]["mlflow_tracking_uri"]:
                    # As kedro-mlflow has it, null is the default.
                    found["server"]["mlflow_tracking_uri"] = mlflow_tracking_uri()
                return found
        except (YAMLError, UnicodeDecodeError):
            # Kedro names a line too early and no reason, or not even the file.
            for path in sorted(Path(self.conf_source).rglob("*.yml")):
                try:
                    OmegaConf.load(path)
                except (YAMLError, UnicodeDecodeError) as error:
                    raise ConfigurationError(f"{path}: {error}") from error
            raise

    def _read_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super().__getitem__("parameters")
        _refuse_misspellings(parameters, (*BLOCKS, *Globals.model_fields))
        contract = super().__getitem__("contract")["contract"]
        # --params may change parts of it.
        merged: Any = OmegaConf.merge(contract, parameters.get("contract", {}))
        return {**parameters, "contract": OmegaConf.to_container(merged)}

    def _block(self, path: str) -> Any:
        return reduce(getitem, path.split("."), self._parameters)


def mlflow_tracking_uri() -> str:
    """``${mlflow_tracking_uri:}``: ``MLFLOW_TRACKING_URI`` or a database beside the project's."""
    from mlops_for_mle.database.engine import normalise_url
    from mlops_for_mle.database.schema import mlflow_store_url

    configured = _variable("MLFLOW_TRACKING_URI")
    if configured.startswith("postgres"):
        return normalise_url(configured, "MLFLOW_TRACKING_URI")
    return configured or mlflow_store_url(_database_url())


def mlflow_artifact_location() -> str:
    """``MLOPS_ARTIFACT_LOCATION`` or a folder of the project."""
    default = (project_path() / "data" / "mlflow" / "artifacts").as_uri()
    return _variable("MLOPS_ARTIFACT_LOCATION") or default


def release_store() -> str:
    """``${release_store:}``: ``MLOPS_RELEASE_STORE`` or a folder of the project."""
    return _variable("MLOPS_RELEASE_STORE") or str(project_path() / "data" / "releases")


def public_address(service: str) -> str:
    """``MLOPS_PUBLIC_API`` or ``MLOPS_PUBLIC_MLFLOW``: where people find a service; else empty."""
    return _variable(f"MLOPS_PUBLIC_{service}").rstrip("/")


def _database_url() -> str:
    from mlops_for_mle.database.engine import database_url

    return database_url()


RESOLVERS: dict[str, Callable[..., Any]] = {
    "database_url": _database_url,
    "mlflow_tracking_uri": mlflow_tracking_uri,
    "release_store": release_store,
}


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _refuse_misspellings(names: Iterable[object], known: Collection[str]) -> None:
    """Refuse a name that is nearly a known one; any other may be somebody's own."""
    for name in names:
        plain = str(name).lower().replace("-", "_")
        nearest = difflib.get_close_matches(plain, known, n=1, cutoff=_SIMILARITY_CUTOFF)
        if name not in known and nearest:
            raise ConfigurationError(
                f"{name}: did you mean {nearest[0]}? A name of your own needs to be less like it."
            )
