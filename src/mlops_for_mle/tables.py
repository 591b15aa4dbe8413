"""The project's own tables, shared by every contract; the migrations make them.

Observations live in a table of their own for each contract, see ``observation_table``.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

from mlops_for_mle.contract import Contract

metadata = MetaData()


def _created_at() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


ingestion_batches = Table(
    "ingestion_batches",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("content_sha256", Text, nullable=False),
    Column("row_count", Integer, nullable=False),
    Column("rejected_count", Integer, nullable=False),
    Column("first_id", BigInteger),
    Column("last_id", BigInteger),
    _created_at(),
    UniqueConstraint(
        "table_name", "source", "content_sha256", name="ingestion_batches_content_key"
    ),
)

rejected_rows = Table(
    "rejected_rows",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column(
        "batch_id",
        BigInteger,
        ForeignKey("ingestion_batches.id", name="rejected_rows_batch_id_fkey"),
        nullable=False,
        index=True,
    ),
    Column("table_name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("row_number", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("row_data", JSONB, nullable=False),
    _created_at(),
)

DEPLOYMENT_EVENTS = ("deploy", "rollback", "load_failed")

deployments = Table(
    "deployments",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("contract", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("model_version", Integer, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    _created_at(),
    CheckConstraint(
        "event IN ('deploy', 'rollback', 'load_failed')", name="deployments_event_check"
    ),
    Index("deployments_contract_id_idx", "contract", "id"),
)

_COLUMN_TYPES = {"float": Double, "integer": BigInteger}


def observation_table(contract: Contract) -> Table:
    """Describe the table of a contract's observations.

    A serial key, a timestamp, one column a feature and the target; for the shipped contract
    exactly the columns of the tutorial's table.
    """
    target_type = Integer if contract.target.task == "classification" else Double
    return Table(
        contract.table,
        MetaData(),
        Column(contract.key, Integer, primary_key=True, autoincrement=True),
        Column(contract.timestamp, DateTime(timezone=False), server_default=func.now()),
        *(
            Column(name, _COLUMN_TYPES[one.type], nullable=False)
            for name, one in contract.features.items()
        ),
        Column(contract.target.column, target_type, nullable=False),
    )
