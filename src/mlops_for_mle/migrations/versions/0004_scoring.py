"""The queue of rows that wait to be scored, what fills it, and the rows that do not fit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# A trigger calls it once a statement, with a contract's name and the key column of its table. It
# runs as its owner, since whoever may write observations need not be allowed to write the queue.
_FUNCTION = """
CREATE FUNCTION enqueue_for_scoring() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    enqueued bigint;
BEGIN
    EXECUTE format(
        'INSERT INTO scoring_queue (contract, source_id) SELECT %L, %I FROM inserted_rows '
        'ON CONFLICT DO NOTHING',
        TG_ARGV[0], TG_ARGV[1]
    );
    GET DIAGNOSTICS enqueued = ROW_COUNT;
    IF enqueued > 0 THEN
        PERFORM pg_notify('scoring_' || TG_ARGV[0], '');
    END IF;
    RETURN NULL;
END
$$
"""

# Every row of a queue dies young: without a vacuum at a fixed number of dead rows, a worker would
# step over more and more of them.
_VACUUM_SOON = """
ALTER TABLE scoring_queue SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
)
"""


def upgrade() -> None:
    op.create_table(
        "scoring_queue",
        sa.Column("contract", sa.Text(collation="C"), primary_key=True),
        sa.Column("source_id", sa.BigInteger, primary_key=True, autoincrement=False),
    )
    op.execute(_VACUUM_SOON)
    op.create_table(
        "scoring_rejects",
        sa.Column("contract", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("source_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("release", sa.Text, nullable=False),
        sa.Column("model_version", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("row_data", JSONB, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
    )
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(_FUNCTION.format(schema=schema))


def downgrade() -> None:
    # With the triggers on the contracts' tables that call it.
    op.execute("DROP FUNCTION enqueue_for_scoring() CASCADE")
    for table in ("scoring_rejects", "scoring_queue"):
        op.drop_table(table)
