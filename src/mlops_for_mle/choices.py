"""What a person may choose in ``globals.yml`` and by ``--params``; the catalog takes it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from mlops_for_mle.contract import Configuration
from mlops_for_mle.errors import ConfigurationError

# The blocks of parameters; what may stand in each is said by the class that reads it.
BLOCKS = (
    "contract",
    "ingestion",
    "training",
    "data_checks",
    "gates",
    "retraining",
    "monitoring",
    "scoring",
)

# Strict, since the catalog passes a value on as it stands.
Text = Annotated[str, Field(strict=True, min_length=1)]
Count = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


class GeneratorChoices(Configuration):
    """How many rows the generator draws, and which; without a seed others in every run."""

    rows: Count
    seed: Seed | None


class WindowChoices(Configuration):
    """Which rows are trained on; null sets no bound, and reads the table."""

    row_limit: Count | None
    watermark: Count | None
    csv_path: Text | None


class GlobalChoices(Configuration):
    """The file ``globals.yml``, which may hold names of somebody's own too."""

    model_config = ConfigDict(extra="ignore")

    source: Text
    dataset: Text
    generator: GeneratorChoices
    csv_path: Text
    csv_encoding: Text
    csv_separator: Text
    csv_decimal: Text
    parquet_path: Text
    source_table: Text | None
    source_query: Text | None
    window: WindowChoices
    experiment: Text
    data_folder: Text


class RuntimeChoices(Configuration):
    """What ``--params`` may give the catalog in place of ``globals.yml``.

    The defaults only say that nothing need be given: what holds then is said by ``globals.yml``.
    """

    model_config = ConfigDict(extra="ignore")

    source: Text = "dataset"
    rows: Count = 1
    seed: Seed | None = None
    csv_path: Text = "rows.csv"
    csv_encoding: Text = "utf-8"
    csv_separator: Text = "comma"
    csv_decimal: Text = "point"
    parquet_path: Text = "rows.parquet"
    source_table: Text | None = None
    source_query: Text | None = None
    row_limit: Count | None = None
    watermark: Count | None = None
    training_csv: Text | None = None


class DatabaseCredentials(Configuration):
    """The project's database."""

    con: Text


class Credentials(Configuration):
    """The file ``credentials.yml``, which may hold those of somebody's own datasets too."""

    model_config = ConfigDict(extra="ignore")

    database: DatabaseCredentials


def refuse_misplaced(choices: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Check that names stand where they mean something.

    Args:
        choices: What ``globals.yml`` holds.
        parameters: What ``--params`` gives.

    Raises:
        ConfigurationError: One would be ignored, because it belongs into the other.
    """
    anywhere = GlobalChoices.model_fields.keys() & RuntimeChoices.model_fields.keys()
    for name in parameters.keys() & GlobalChoices.model_fields.keys() - anywhere:
        raise ConfigurationError(
            f"--params {name}: stands in globals.yml only; --params takes "
            f"{', '.join(RuntimeChoices.model_fields)} and the blocks of parameters"
        )
    for name in choices.keys() & (RuntimeChoices.model_fields.keys() | set(BLOCKS)) - anywhere:
        where = "a file conf/…/parameters*.yml" if name in BLOCKS else "--params"
        raise ConfigurationError(f"globals.{name}: means nothing here; it belongs into {where}")
