"""Monitoring runs with their metrics, and decisions on retraining."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "monitoring_runs",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("contract", sa.Text, nullable=False),
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("window_from", sa.DateTime(timezone=True)),
        sa.Column("window_to", sa.DateTime(timezone=True)),
        sa.Column("prediction_count", sa.BigInteger, nullable=False),
        sa.Column("labelled_count", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reasons", JSONB, nullable=False),
        _created_at(),
        sa.CheckConstraint(
            "status IN ('insufficient', 'healthy', 'warning', 'alarm')",
            name="monitoring_runs_status_check",
        ),
    )
    op.create_index("monitoring_runs_contract_id_idx", "monitoring_runs", ["contract", "id"])
    op.create_table(
        "monitoring_metrics",
        sa.Column(
            "run_id",
            sa.BigInteger,
            sa.ForeignKey("monitoring_runs.id", name="monitoring_metrics_run_id_fkey"),
            primary_key=True,
        ),
        sa.Column("area", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("metric", sa.Text, primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("lower", sa.Double),
        sa.Column("upper", sa.Double),
        sa.Column("threshold", sa.Double),
        sa.Column("p_value", sa.Double),
        sa.Column("is_alarm", sa.Boolean, nullable=False),
        sa.CheckConstraint(
            "area IN ('data_quality', 'drift', 'performance', 'calibration')",
            name="monitoring_metrics_area_check",
        ),
    )
    op.create_table(
        "retraining_decisions",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("contract", sa.Text, nullable=False),
        sa.Column(
            "monitoring_run_id",
            sa.BigInteger,
            sa.ForeignKey("monitoring_runs.id", name="retraining_decisions_monitoring_run_id_fkey"),
        ),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("reasons", JSONB, nullable=False),
        sa.Column("evidence_from", sa.DateTime(timezone=True)),
        sa.Column("acted_at", sa.DateTime(timezone=True)),
        sa.Column("outcome", sa.Text),
        _created_at(),
        sa.CheckConstraint(
            "decision IN ('none', 'investigate', 'retrain')",
            name="retraining_decisions_decision_check",
        ),
    )
    op.create_index(
        "retraining_decisions_contract_id_idx", "retraining_decisions", ["contract", "id"]
    )


def downgrade() -> None:
    for table in ("retraining_decisions", "monitoring_metrics", "monitoring_runs"):
        op.drop_table(table)


def _created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
    )
