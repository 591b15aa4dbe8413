"""From a Postgres table to a monitored prediction API, as one Kedro project."""

__version__ = "0.1.0"
