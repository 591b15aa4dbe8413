"""Which labelled predictions a monitoring run has looked at, and how runs are found by time."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("labelled_from", "labelled_to"):
        op.add_column("monitoring_runs", sa.Column(name, sa.DateTime(timezone=True)))
    for name in ("window_to", "labelled_to"):
        op.create_index(
            f"monitoring_runs_{name}_idx", "monitoring_runs", ["contract", "release", name, "id"]
        )


def downgrade() -> None:
    for name in ("window_to", "labelled_to"):
        op.drop_index(f"monitoring_runs_{name}_idx")
    for name in ("labelled_from", "labelled_to"):
        op.drop_column("monitoring_runs", name)
