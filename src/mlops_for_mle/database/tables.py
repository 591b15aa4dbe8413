"""The project's own tables, shared by every contract, which the migrations make.

Each contract also has a table of observations and one of their predictions.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, TIMESTAMP
from sqlalchemy.schema import SchemaItem

from mlops_for_mle.contract import Contract, Feature
from mlops_for_mle.contract.model import FeatureType
from mlops_for_mle.database.engine import UTC_NOW

metadata = sa.MetaData()

_TYPES: Mapping[FeatureType, Any] = {
    "float": DOUBLE_PRECISION(),
    "integer": sa.BigInteger(),
    "decimal": sa.Numeric(),
    "boolean": sa.Boolean(),
    "category": sa.Text(),
    "date": sa.Date(),
    "timestamp": TIMESTAMP(),
}
_MOMENT = sa.DateTime(timezone=True)


def _table(name: str, *items: SchemaItem) -> sa.Table:
    return sa.Table(name, metadata, *items)


def _columns(type_: Any, *names: str, **options: Any) -> list[sa.Column[Any]]:
    return [sa.Column(name, type_, **options) for name in names]


def _created_at() -> sa.Column[object]:
    return sa.Column("created_at", _MOMENT, nullable=False, server_default=sa.func.now())


ingestion_batches = _table(
    "ingestion_batches",
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    *_columns(sa.Text, "table_name", "source", "content_sha256", nullable=False),
    *_columns(sa.Integer, "row_count", "rejected_count", nullable=False),
    *_columns(sa.BigInteger, "first_id", "last_id"),
    _created_at(),
    sa.UniqueConstraint("table_name", "source", "content_sha256"),
)

rejected_rows = _table(
    "rejected_rows",
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("batch_id", sa.ForeignKey("ingestion_batches.id"), nullable=False, index=True),
    *_columns(sa.Text, "table_name", "source", nullable=False),
    sa.Column("row_number", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("row_data", JSONB, nullable=False),
    _created_at(),
)

deployments = _table(
    "deployments",
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    *_columns(sa.Text, "contract", "event", "release", nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    *_columns(sa.Text, "run_id", "reason", "actor", nullable=False),
    _created_at(),
    sa.CheckConstraint("event IN ('deploy', 'rollback')"),
)

# Several million rows are usual, so the columns stand in an order that wastes no padding.
predictions = _table(
    "predictions",
    # Version 7 UUIDs as text, with "-<row>" where a request had several rows. They begin with
    # their time: in byte order, new ones go to the end of the index.
    sa.Column("prediction_id", sa.Text(collation="C"), primary_key=True),
    sa.Column("created_at", _MOMENT, nullable=False),
    # A class value, its place in the contract where that is text, or a number.
    sa.Column("prediction", sa.Double, nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    sa.Column("latency_ms", sa.REAL, nullable=False),
    *_columns(sa.Text, "contract", "release", nullable=False),
    # The name of the predicted class; null for a regression.
    sa.Column("label", sa.Text),
    # By name, as the request gave them.
    sa.Column("features", JSONB, nullable=False),
    # In the order of the contract's classes; null where the model has none.
    sa.Column("probabilities", ARRAY(sa.Double)),
    sa.Column("request_id", sa.Text),
    sa.Index("predictions_contract_created_at_idx", "contract", "created_at"),
)

# The true label of a prediction is the row without superseded_at; the others are its history.
# There is no foreign key, since a label may arrive before its prediction was shipped.
feedback = _table(
    "feedback",
    sa.Column("prediction_id", sa.Text(collation="C"), primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("contract", sa.Text, nullable=False),
    sa.Column("target", sa.Double, nullable=False),
    sa.Column("label", sa.Text),
    _created_at(),
    sa.Column("superseded_at", _MOMENT),
    sa.Index(
        "feedback_current_key",
        "prediction_id",
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL"),
    ),
    sa.Index("feedback_contract_created_at_idx", "contract", "created_at"),
)

# The answers to requests that a client may repeat, written with what the request changed.
idempotency_keys = _table(
    "idempotency_keys",
    *_columns(sa.Text, "table_name", "key", primary_key=True),
    sa.Column("request_sha256", sa.Text, nullable=False),
    sa.Column("response", sa.Text),
    _created_at(),
    sa.Index("idempotency_keys_created_at_idx", "created_at"),
)

# Every look at the deployed release: which predictions, how they were judged and why.
monitoring_runs = _table(
    "monitoring_runs",
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    *_columns(sa.Text, "contract", "release", nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    # When the first and the last prediction of the window were answered; without any, the end is
    # until when they were looked for.
    *_columns(_MOMENT, "window_from", "window_to"),
    *_columns(sa.BigInteger, "prediction_count", "labelled_count", nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    # A list of sentences.
    sa.Column("reasons", JSONB, nullable=False),
    _created_at(),
    # When the first and the last of the labelled predictions that were looked at were answered.
    *_columns(_MOMENT, "labelled_from", "labelled_to"),
    sa.CheckConstraint("status IN ('insufficient', 'healthy', 'warning', 'alarm')"),
    sa.Index("monitoring_runs_window_to_idx", "contract", "release", "window_to", "id"),
    sa.Index("monitoring_runs_labelled_to_idx", "contract", "release", "labelled_to", "id"),
)

monitoring_metrics = _table(
    "monitoring_metrics",
    sa.Column("run_id", sa.ForeignKey("monitoring_runs.id"), primary_key=True),
    # The subject is a feature's name, or what else was looked at: ``prediction`` or ``rows``.
    *_columns(sa.Text, "area", "subject", "metric", primary_key=True),
    # With the ends of its interval and what it was compared with; p is corrected for all tests.
    *_columns(sa.Double, "value", "lower", "upper", "threshold", "p_value"),
    sa.Column("is_alarm", sa.Boolean, nullable=False),
    # The part of the window that was measured, such as ``region=north``; empty for all of it.
    sa.Column("segment", sa.Text, primary_key=True, server_default=""),
    sa.CheckConstraint("area IN ('data_quality', 'drift', 'performance', 'estimate')"),
)

# The newest report of each contract, for the API to give to people.
monitoring_reports = _table(
    "monitoring_reports",
    sa.Column("contract", sa.Text, primary_key=True),
    sa.Column("html", sa.Text, nullable=False),
)

retraining_decisions = _table(
    "retraining_decisions",
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("contract", sa.Text, nullable=False),
    # The newest run that the decision looked at; null where there was none.
    sa.Column("monitoring_run_id", sa.ForeignKey("monitoring_runs.id")),
    sa.Column("decision", sa.Text, nullable=False),
    # A list of sentences.
    sa.Column("reasons", JSONB, nullable=False),
    # When the first prediction that speaks for the decision was answered.
    sa.Column("evidence_from", _MOMENT),
    # The MLflow run of the last retraining that took it up.
    sa.Column("run_id", sa.Text),
    # When the retraining that this decision called for ended, and how.
    sa.Column("acted_at", _MOMENT),
    sa.Column("outcome", sa.Text),
    _created_at(),
    sa.CheckConstraint("decision IN ('none', 'investigate', 'retrain')"),
)

# Rows of observation tables that wait to be scored; triggers on those tables fill it, and whoever
# scores a row deletes it in the same transaction. See ``pipelines.scoring.following``.
scoring_queue = _table(
    "scoring_queue",
    sa.Column("contract", sa.Text(collation="C"), primary_key=True),
    # The key of the row in the contract's table.
    sa.Column("source_id", sa.BigInteger, primary_key=True, autoincrement=False),
)

# Rows and messages that do not fit the contract of the release that was to score them.
scoring_rejects = _table(
    "scoring_rejects",
    sa.Column("contract", sa.Text, primary_key=True),
    # As in the contract's table of predictions.
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("source_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("release", sa.Text, nullable=False),
    sa.Column("model_version", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("row_data", JSONB, nullable=False),
    _created_at(),
)


def observations(contract: Contract) -> sa.Table:
    """The contract's table; for the shipped contract exactly the tutorial's."""
    return sa.Table(
        contract.table,
        sa.MetaData(),
        sa.Column(contract.key, sa.Integer, primary_key=True),
        sa.Column(contract.timestamp, sa.DateTime, server_default=sa.text(UTC_NOW)),
        *(
            sa.Column(name, _column_type(name, feature, contract), nullable=feature.is_optional)
            for name, feature in contract.columns.items()
        ),
    )


def prediction_table(contract: Contract) -> str:
    """The name of the table of predictions for rows of the table and messages of a topic."""
    return f"{contract.name}_prediction"


def predictions_of(contract: Contract) -> sa.Table:
    """The contract's table of predictions.

    The tutorial's own programs make and write only the first three columns, so the others may be
    null: where the row came from (a table, or a part of a topic) and its number there, together
    unique; its key in the table of observations; and what scored it when.
    """
    target = contract.target
    return sa.Table(
        prediction_table(contract),
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("timestamp", sa.DateTime),
        sa.Column(target.response_name, _column_type(target.column, target.feature, contract)),
        sa.Column("source", sa.Text),
        *_columns(sa.BigInteger, "source_id", "row_key"),
        sa.Column("model_version", sa.Integer),
        sa.Column("release", sa.Text),
        sa.Column("scored_at", _MOMENT),
        sa.Index(f"{contract.name}_predicted_key", "source", "source_id", unique=True),
    )


def _column_type(name: str, feature: Feature, contract: Contract) -> Any:
    if not feature.has_integer_categories:
        return _TYPES[feature.type]
    # As the tutorial's target.
    return sa.Integer() if name == contract.target.column else sa.BigInteger()
