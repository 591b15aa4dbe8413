"""The project's own tables, as ``database.tables`` defines them, and what fills the queue."""

from alembic import op
from sqlalchemy import text

from mlops_for_mle.database.tables import metadata

revision = "0001"
down_revision = None

# A trigger calls it once a statement, with a contract's name and the key column of its table. It
# runs as its owner, since whoever may write observations need not be allowed to write the queue.
# So not everybody may make such a trigger: a type of theirs would run their code as the owner.
_FUNCTION = """
CREATE FUNCTION enqueue_for_scoring() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    EXECUTE pg_catalog.format(
        'INSERT INTO scoring_queue (contract, source_id) SELECT %L, %I FROM inserted_rows '
        'ON CONFLICT DO NOTHING',
        TG_ARGV[0], TG_ARGV[1]
    );
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION enqueue_for_scoring() FROM PUBLIC
"""


def upgrade() -> None:
    """Make all tables."""
    metadata.create_all(op.get_bind(), checkfirst=False)
    schema = op.get_bind().scalar(text("SELECT quote_ident(current_schema())"))
    op.execute(_FUNCTION.format(schema=schema))
