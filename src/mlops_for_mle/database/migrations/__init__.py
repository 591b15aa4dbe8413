"""The revisions of the project's own tables, run by Alembic."""
