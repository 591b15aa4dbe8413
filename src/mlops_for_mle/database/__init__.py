"""Where PostgreSQL is, its engine and the tables of the project."""
