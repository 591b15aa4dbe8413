"""The tables of a contract: its observations and its stream predictions."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    func,
)
from sqlalchemy.types import TypeEngine

from mlops_for_mle.contract import Contract, Feature, Target
from mlops_for_mle.contract.model import LONGEST_NAME

_COLUMN_TYPES: dict[str, type[TypeEngine[Any]]] = {
    "float": Double,
    "integer": BigInteger,
    "decimal": Numeric,
    "boolean": Boolean,
    "date": Date,
    "timestamp": DateTime,
}


def observation_table(contract: Contract) -> Table:
    """Describe the table of a contract's observations.

    A serial key, a timestamp, one column a feature and the target; for the shipped contract
    exactly the columns of the tutorial's table. Only features that may be missing may be null.
    """
    return Table(
        contract.table,
        MetaData(),
        Column(contract.key, Integer, primary_key=True, autoincrement=True),
        Column(contract.timestamp, DateTime(timezone=False), server_default=func.now()),
        *(
            Column(name, _feature_type(one), nullable=one.is_optional)
            for name, one in contract.features.items()
        ),
        Column(contract.target.column, _target_type(contract.target), nullable=False),
    )


def prediction_table(contract: Contract) -> Table:
    """Describe the table of a contract's stream predictions, which is named after the contract.

    The first three columns are those of the tutorial's table. Its own programs write only these,
    so the others may be null: where the row came from (a table, or a part of a topic) and its
    number there, which together are never there twice; its key in the table of observations,
    which a message may not have; and what scored it when.
    """
    name = prediction_table_name(contract)
    prediction = contract.target.response_name
    facts: list[Column[Any]] = [
        Column("source", Text),
        Column("source_id", BigInteger),
        Column("row_key", BigInteger),
        Column("model_version", Integer),
        Column("release", Text),
        Column("scored_at", DateTime(timezone=True)),
    ]
    index = f"{name}_source_key"
    if len(index) > LONGEST_NAME:
        index = f"{contract.name}_predicted_key"
    return Table(
        name,
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("timestamp", DateTime(timezone=False)),
        Column(prediction, _target_type(contract.target)),
        *facts,
        Index(index, "source", "source_id", unique=True),
    )


def prediction_table_name(contract: Contract) -> str:
    """The name of the table of a contract's stream predictions."""
    return f"{contract.name}_prediction"


def _feature_type(feature: Feature) -> type[TypeEngine[Any]]:
    if feature.type == "category":
        return BigInteger if feature.has_integer_categories else Text
    return _COLUMN_TYPES[feature.type]


def _target_type(target: Target) -> type[TypeEngine[Any]]:
    if target.task == "regression":
        return Double
    if target.has_text_classes:
        return Text
    # The tutorial's type, unless a class needs more.
    return Integer if all(abs(code) < 2**31 for code in target.class_codes) else BigInteger
