"""What a person may choose in ``conf`` and by ``--params``, by name."""

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

# What only the command line gives, for the catalog to take.
RUNTIME_NAMES = (
    "source",
    "rows",
    "seed",
    "csv_path",
    "parquet_path",
    "source_table",
    "source_query",
    "row_limit",
    "watermark",
    "training_csv",
)
