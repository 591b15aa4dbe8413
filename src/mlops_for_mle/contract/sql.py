"""Names and constants in SQL, as the tables of a contract need them."""

from mlops_for_mle.contract.model import Contract

UTC_NOW = "timezone('utc', now())"
"""The clock of columns without a zone, whatever the session's zone is."""


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as a constant of SQL."""
    return "'" + value.replace("'", "''") + "'"


def prediction_table(contract: Contract) -> str:
    """The name of the table of predictions for rows of the table and messages of a topic."""
    return f"{contract.name}_prediction"
