"""Alembic's entry point: runs the revisions on the connection that the caller holds."""

from alembic import context

from mlops_for_mle.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
