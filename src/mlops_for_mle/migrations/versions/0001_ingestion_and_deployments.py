"""Batches, rejected rows and deployments."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ingestion_batches",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("content_sha256", sa.Text, nullable=False),
        sa.Column("row_count", sa.Integer, nullable=False),
        sa.Column("rejected_count", sa.Integer, nullable=False),
        sa.Column("first_id", sa.BigInteger),
        sa.Column("last_id", sa.BigInteger),
        _created_at(),
        sa.UniqueConstraint(
            "table_name", "source", "content_sha256", name="ingestion_batches_content_key"
        ),
    )
    op.create_table(
        "rejected_rows",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column(
            "batch_id",
            sa.BigInteger,
            sa.ForeignKey("ingestion_batches.id", name="rejected_rows_batch_id_fkey"),
            nullable=False,
        ),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("row_number", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("row_data", JSONB, nullable=False),
        _created_at(),
    )
    op.create_index("ix_rejected_rows_batch_id", "rejected_rows", ["batch_id"])
    op.create_table(
        "deployments",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("contract", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        _created_at(),
        sa.CheckConstraint(
            "event IN ('deploy', 'rollback', 'load_failed')", name="deployments_event_check"
        ),
    )
    op.create_index("deployments_contract_id_idx", "deployments", ["contract", "id"])


def downgrade() -> None:
    for table in ("deployments", "rejected_rows", "ingestion_batches"):
        op.drop_table(table)


def _created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
    )
