"""Answered predictions, true labels and idempotency keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "predictions",
        sa.Column("prediction_id", sa.Text(collation="C"), primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("prediction", sa.Double, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("latency_ms", sa.REAL, nullable=False),
        sa.Column("contract", sa.Text, nullable=False),
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("features", JSONB, nullable=False),
        sa.Column("probabilities", ARRAY(sa.Double)),
        sa.Column("request_id", sa.Text),
    )
    op.create_index(
        "predictions_contract_created_at_idx", "predictions", ["contract", "created_at"]
    )
    op.create_table(
        "feedback",
        sa.Column("prediction_id", sa.Text(collation="C"), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("contract", sa.Text, nullable=False),
        sa.Column("target", sa.Double, nullable=False),
        sa.Column("label", sa.Text),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        sa.Column("superseded_at", sa.DateTime(timezone=True)),
    )
    op.create_index(
        "feedback_current_key",
        "feedback",
        ["prediction_id"],
        unique=True,
        postgresql_where=sa.text("superseded_at IS NULL"),
    )
    op.create_index("feedback_contract_created_at_idx", "feedback", ["contract", "created_at"])
    op.create_table(
        "idempotency_keys",
        sa.Column("table_name", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("request_sha256", sa.Text, nullable=False),
        sa.Column("response", sa.Text),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    op.create_index("idempotency_keys_created_at_idx", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    for table in ("idempotency_keys", "feedback", "predictions"):
        op.drop_table(table)
