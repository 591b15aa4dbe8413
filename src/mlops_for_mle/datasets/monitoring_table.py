"""Counts over the newest rows of a contract's table."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Double,
    FromClause,
    Table,
    cast,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy import inspect as inspect_database

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract_tables import observation_table
from mlops_for_mle.records_monitoring import NumericColumn, TableCounts, WindowPlan


def count_table(connection: Connection, plan: WindowPlan) -> TableCounts | None:
    """Count the newest rows of the table, as many as the window has; None without the table."""
    contract = plan.reference.contract
    table = observation_table(contract)
    inspector = inspect_database(connection)
    if not inspector.has_table(table.name):
        return None
    present = {one["name"] for one in inspector.get_columns(table.name)}
    if not set(table.columns.keys()) <= present:
        return None
    key, timestamp = table.c[contract.key], table.c[contract.timestamp]
    columns = [table.c[name] for name in contract.columns]
    newest = select(key, timestamp, *columns).order_by(key.desc()).limit(plan.row_limit)
    if plan.until is not None:
        newest = newest.where(timestamp <= _local(plan.until))
    rows = newest.subquery("newest_rows")
    bad = _unfit(rows, plan)
    measured = connection.execute(
        select(
            func.count(),
            func.extract("epoch", _local(plan.until) - func.max(rows.c[contract.timestamp])),
            *(func.count().filter(rows.c[name].is_(None)) for name in contract.columns),
            *(func.count().filter(condition) for condition in bad.values()),
        ).select_from(rows)
    ).one()
    count, age, *others = measured
    width = len(contract.columns)
    return TableCounts(
        table=contract.table,
        row_count=count,
        new_rows=_count_new(connection, table, contract, plan.reference.watermark),
        age_seconds=None if age is None else max(0.0, float(age)),
        duplicates=count - _count_distinct(connection, rows, contract),
        missing=dict(zip(contract.columns, others[:width], strict=True)),
        out_of_range=dict(zip(bad, others[width:], strict=True)),
    )


def _unfit(rows: FromClause, plan: WindowPlan) -> dict[str, ColumnElement[bool]]:
    """For each column, which values the contract does not allow."""
    found: dict[str, ColumnElement[bool]] = {}
    for one in plan.reference.features:
        if isinstance(one.column, NumericColumn) and not one.column.is_time:
            limits = (one.column.minimum, one.column.maximum)
            found[one.column.name] = _outside(rows.c[one.column.name], *limits)
    target = plan.reference.contract.target
    values = rows.c[target.column]
    found[target.column] = (
        values.not_in(target.class_values)
        if plan.reference.class_codes
        else _outside(values, target.minimum, target.maximum)
    )
    return found


def _outside(
    values: ColumnElement[Any], minimum: float | None, maximum: float | None
) -> ColumnElement[bool]:
    number = cast(values, Double)
    # Postgres counts NaN as larger than everything else.
    return or_(
        number < (literal(-1e308) if minimum is None else minimum),
        number > (literal(1e308) if maximum is None else maximum),
    )


def _count_distinct(connection: Connection, rows: FromClause, contract: Contract) -> int:
    columns = [rows.c[name] for name in contract.columns]
    digest = func.hash_record_extended(func.row(*columns), 0).label("digest")
    hashed = select(digest).select_from(rows).group_by("digest").subquery()
    return connection.scalar(select(func.count()).select_from(hashed)) or 0


def _count_new(
    connection: Connection, table: Table, contract: Contract, watermark: int | None
) -> int | None:
    if watermark is None:
        return None
    key: Column[Any] = table.c[contract.key]
    newer = cast(key, BigInteger) > watermark
    return connection.scalar(select(func.count()).select_from(table).where(newer))


def _local(moment: Any) -> ColumnElement[Any]:
    """A moment as the table's clock shows it, which has no zone and means UTC; None is now."""
    return func.timezone("UTC", func.now() if moment is None else literal(moment))
