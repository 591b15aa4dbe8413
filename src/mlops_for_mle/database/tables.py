"""The project's own tables, shared by every contract, which the migrations make; and a contract's.

Observations and their predictions live in tables of their own for each contract.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, TIMESTAMP

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.model import FeatureType
from mlops_for_mle.contract.sql import UTC_NOW, prediction_table

metadata = MetaData()

_TYPES: Mapping[FeatureType, Any] = {
    "float": DOUBLE_PRECISION(),
    "integer": BigInteger(),
    "decimal": Numeric(),
    "boolean": Boolean(),
    "category": Text(),
    "date": Date(),
    "timestamp": TIMESTAMP(),
}
_LARGEST_INTEGER = 2**31


def _created_at() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


ingestion_batches = Table(
    "ingestion_batches",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("content_sha256", Text, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("rejected_count", Integer, nullable=False),
    Column("first_id", BigInteger),
    Column("last_id", BigInteger),
    _created_at(),
    UniqueConstraint(
        "table_name", "source", "content_sha256", name="ingestion_batches_content_key"
    ),
)

rejected_rows = Table(
    "rejected_rows",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("batch_id", ForeignKey("ingestion_batches.id"), nullable=False, index=True),
    Column("table_name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("row_number", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("row_data", JSONB, nullable=False),
    _created_at(),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("contract", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    _created_at(),
    CheckConstraint("event IN ('deploy', 'rollback', 'load_failed')"),
    Index("deployments_contract_id_idx", "contract", "id"),
)

# Several million rows are usual, so the columns stand in an order that wastes no padding.
predictions = Table(
    "predictions",
    metadata,
    # Version 7 UUIDs as text, with "-<row>" where a request had several rows. They begin with
    # their time: in byte order, new ones go to the end of the index.
    Column("prediction_id", Text(collation="C"), primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    # A class value, its place in the contract where that is text, or a number.
    Column("prediction", Double, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("latency_ms", REAL, nullable=False),
    Column("contract", Text, nullable=False),
    Column("release", Text, nullable=False),
    # The name of the predicted class; null for a regression.
    Column("label", Text),
    # By name, as the request gave them.
    Column("features", JSONB, nullable=False),
    # In the order of the contract's classes; null where the model has none.
    Column("probabilities", ARRAY(Double)),
    Column("request_id", Text),
    Index("predictions_contract_created_at_idx", "contract", "created_at"),
)

# The true label of a prediction is the row without superseded_at; the others are its history.
# There is no foreign key, since a label may arrive before its prediction was shipped.
feedback = Table(
    "feedback",
    metadata,
    Column("prediction_id", Text(collation="C"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("contract", Text, nullable=False),
    Column("target", Double, nullable=False),
    Column("label", Text),
    _created_at(),
    Column("superseded_at", DateTime(timezone=True)),
    Index(
        "feedback_current_key",
        "prediction_id",
        unique=True,
        postgresql_where=text("superseded_at IS NULL"),
    ),
    Index("feedback_contract_created_at_idx", "contract", "created_at"),
)

# The answers to requests that a client may repeat, written with what the request changed.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_sha256", Text, nullable=False),
    Column("response", Text),
    _created_at(),
    Index("idempotency_keys_created_at_idx", "created_at"),
)

# Every look at the deployed release: which predictions, how they were judged and why.
monitoring_runs = Table(
    "monitoring_runs",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("contract", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("model_version", Integer, nullable=False),
    # When the first and the last prediction of the window were answered.
    Column("window_from", DateTime(timezone=True)),
    Column("window_to", DateTime(timezone=True)),
    Column("prediction_count", BigInteger, nullable=False),
    Column("labelled_count", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    # A list of sentences.
    Column("reasons", JSONB, nullable=False),
    _created_at(),
    # When the first and the last of the labelled predictions was answered that were looked at.
    Column("labelled_from", DateTime(timezone=True)),
    Column("labelled_to", DateTime(timezone=True)),
    CheckConstraint("status IN ('insufficient', 'healthy', 'warning', 'alarm')"),
    Index("monitoring_runs_contract_id_idx", "contract", "id"),
    Index("monitoring_runs_window_to_idx", "contract", "release", "window_to", "id"),
    Index("monitoring_runs_labelled_to_idx", "contract", "release", "labelled_to", "id"),
)

monitoring_metrics = Table(
    "monitoring_metrics",
    metadata,
    Column("run_id", ForeignKey("monitoring_runs.id"), primary_key=True),
    Column("area", Text, primary_key=True),
    # A feature's name, or what else was looked at, such as ``prediction`` or ``table``.
    Column("subject", Text, primary_key=True),
    Column("metric", Text, primary_key=True),
    Column("value", Double),
    # The ends of the confidence interval.
    Column("lower", Double),
    Column("upper", Double),
    # What the value was compared with.
    Column("threshold", Double),
    # Corrected for all tests of the run.
    Column("p_value", Double),
    Column("is_alarm", Boolean, nullable=False),
    # The part of the window that was measured, such as ``region=north``; empty for all of it.
    Column("segment", Text, primary_key=True, server_default=""),
    CheckConstraint("area IN ('data_quality', 'drift', 'performance', 'estimate')"),
)

# The newest report of each contract, for the API to give to people.
monitoring_reports = Table(
    "monitoring_reports",
    metadata,
    Column("contract", Text, primary_key=True),
    Column("html", Text, nullable=False),
)

retraining_decisions = Table(
    "retraining_decisions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("contract", Text, nullable=False),
    # The newest run that the decision looked at; null where there was none.
    Column("monitoring_run_id", ForeignKey("monitoring_runs.id")),
    Column("decision", Text, nullable=False),
    # A list of sentences.
    Column("reasons", JSONB, nullable=False),
    # When the first of the predictions was answered that speak for the decision.
    Column("evidence_from", DateTime(timezone=True)),
    # The MLflow run of the retraining that has taken it up last.
    Column("run_id", Text),
    # When a retraining ended that this decision called for, and how.
    Column("acted_at", DateTime(timezone=True)),
    Column("outcome", Text),
    _created_at(),
    CheckConstraint("decision IN ('none', 'investigate', 'retrain')"),
    Index("retraining_decisions_contract_id_idx", "contract", "id"),
)

# Rows of observation tables that wait to be scored; triggers on those tables fill it, and whoever
# scores a row deletes it in the same transaction. See ``pipelines.scoring.following``.
scoring_queue = Table(
    "scoring_queue",
    metadata,
    Column("contract", Text(collation="C"), primary_key=True),
    # The key of the row in the contract's table.
    Column("source_id", BigInteger, primary_key=True, autoincrement=False),
)

# Rows and messages that do not fit the contract of the release that was to score them.
scoring_rejects = Table(
    "scoring_rejects",
    metadata,
    Column("contract", Text, primary_key=True),
    # As in the contract's table of predictions.
    Column("source", Text, primary_key=True),
    Column("source_id", BigInteger, primary_key=True, autoincrement=False),
    Column("release", Text, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("row_data", JSONB, nullable=False),
    _created_at(),
)


def observations(contract: Contract) -> Table:
    """The contract's table; for the shipped contract exactly the tutorial's.

    Only features that may be missing may be null.
    """
    return Table(
        contract.table,
        MetaData(),
        Column(contract.key, Integer, primary_key=True),
        Column(contract.timestamp, DateTime, server_default=text(UTC_NOW)),
        *(
            Column(name, _column_type(name, one, contract), nullable=one.is_optional)
            for name, one in contract.columns.items()
        ),
    )


def predictions_of(contract: Contract) -> Table:
    """The contract's table of predictions.

    The tutorial's own programs make and write only the first three columns, so the others may be
    null: where the row came from (a table, or a part of a topic) and its number there, which
    together are never there twice; its key in the table of observations; and what scored it when.
    """
    target = contract.target
    return Table(
        prediction_table(contract),
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("timestamp", DateTime),
        Column(target.response_name, _column_type(target.column, target.feature, contract)),
        Column("source", Text),
        Column("source_id", BigInteger),
        Column("row_key", BigInteger),
        Column("model_version", Integer),
        Column("release", Text),
        Column("scored_at", DateTime(timezone=True)),
        Index(f"{contract.name}_predicted_key", "source", "source_id", unique=True),
    )


def _column_type(name: str, feature: Feature, contract: Contract) -> Any:
    if not feature.has_integer_categories:
        return _TYPES[feature.type]
    # The tutorial's target, unless a class needs more.
    is_small = all(abs(int(one)) < _LARGEST_INTEGER for one in feature.categories)
    return Integer() if is_small and name == contract.target.column else BigInteger()
