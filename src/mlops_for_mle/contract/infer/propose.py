"""Puts a contract together: what is predicted, what is a feature, and what is left out and why."""

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.contract.columns import check_columns, encode_examples
from mlops_for_mle.contract.infer.decide import (
    Column,
    case_remark,
    describe_feature,
    infer_column,
    number_range,
    one_line,
)
from mlops_for_mle.contract.model import (
    MAX_NAME_BYTES,
    NUMBER_TYPES,
    RESERVED_RESPONSE_NAMES,
    TIME_TYPES,
    Name,
    Task,
    normalised,
)
from mlops_for_mle.contract.notation import DecimalMark, Notation
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.training.options import DataCheckOptions

_TIME_NAMES = re.compile(
    r"(event|created|observed|recorded|logged|measured|inserted)?[ _]?(timestamp|datetime|time|at)"
    r"|(생성|관측|수집|기록|등록|측정)[ _]?(일시|시각)|일시|타임스탬프",
    re.IGNORECASE,
)
_MAX_CLASSES = 100
_FEW_NUMBERS = 20
# With a larger share of bad rows, ingestion holds everything back.
_MAX_MISSING = 0.5
# Every table of PostgreSQL has columns of these names.
_SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})


class InferOptions(Configuration):
    """What a person says of the rows, by the options of ``kedro contract infer``."""

    separator: str = ""
    leave_out: tuple[Name, ...] = ()
    missing: tuple[str, ...] = ()
    time: Name | None = None
    group: Name | None = None
    task: Task | None = None
    decimal: Literal["point", "comma"] | None = None
    date_format: dict[Name, str] = Field(default_factory=dict)
    drop_missing_target: bool = False
    minimum_class_rows: int = DataCheckOptions().minimum_rows_per_class or 1


@dataclass(frozen=True)
class Proposal:
    """A contract and what a person should know when reviewing it.

    Attributes:
        facts: The contract without its features, as a mapping.
        left_out: The columns that are no features, beside target and time.
        ingestion: What differs from the default in the options of ingestion.
        is_timed: Whether the source says of its rows when they were observed.
    """

    facts: dict[str, Any]
    source: str
    features: list[Column]
    left_out: list[Column]
    target: Column
    ingestion: dict[str, Any]
    minimum_class_rows: int
    is_timed: bool

    def contract(self) -> Contract:
        """The contract; a ``ValidationError`` where its name or a constant target cannot be."""
        features = {column.name: column.keys for column in self.features}
        return Contract.model_validate({**self.facts, "features": features})


def propose(rows: pd.DataFrame, name: str, target: str, source: str, **options: Any) -> Proposal:
    """Propose a contract for rows as read; ``source`` names them, ``options`` are ``InferOptions``.

    Raises:
        UserError: Something is wrong with the rows; one sentence a problem, with its remedy.
        ValidationError: The contract's name is not allowed, or the target is constant.
    """
    rows = rows.rename(columns=lambda name: normalised(str(name)))
    target, infer_options = normalised(target), InferOptions.model_validate(options)
    _check_request(rows, source, target, infer_options)
    names: dict[str, str] = {}
    for column in rows.columns:
        names[column] = _name_in_postgres(column, {*rows.columns, *names.values()})
    columns = _columns(rows, names, target, infer_options)
    ingestion: dict[str, Any] = {"rename": {old: new for old, new in names.items() if new != old}}
    for option in ("number_formats", "date_formats", "missing_marks"):
        written = {column.name: column.written.get(option) for column in columns.values()}
        ingestion[option] = {column: value for column, value in written.items() if value}
    ingestion["drop_missing_target"] = infer_options.drop_missing_target
    if infer_options.time and columns[infer_options.time].kind not in TIME_TYPES:
        time_column = columns[infer_options.time]
        problem = time_column.left_out or f"holds {time_column.kind}"
        raise UserError(f"--time: column {infer_options.time!r} {problem}, expected dates.")
    target_column = columns.pop(target)
    time_columns = [old for old, column in columns.items() if column.kind in TIME_TYPES]
    time = infer_options.time or next(filter(_TIME_NAMES.fullmatch, time_columns), None)
    # Rows that came at several times: there is a newest quarter, and older ones differ.
    quarters = columns.pop(time).values.quantile([0, 0.25, 0.5, 0.75, 1]) if time else None
    if infer_options.group:
        columns.pop(infer_options.group, None)
    timestamp = names[time] if time else _free_name(("timestamp", "observed_at"), names.values())
    candidates = [describe_feature(column) for column in columns.values()]
    proposal = Proposal(
        facts={
            "name": name,
            "table": f"{name}_data",
            "key": _free_name(("id", "row_id"), {*names.values(), timestamp}),
            "timestamp": timestamp,
            "group": names[infer_options.group] if infer_options.group else None,
            "target": _target(target_column, infer_options),
        },
        source=source,
        features=[column for column in candidates if not column.left_out],
        left_out=[column for column in candidates if column.left_out],
        target=replace(target_column, remark=case_remark(target_column)),
        ingestion={option: value for option, value in ingestion.items() if value},
        minimum_class_rows=infer_options.minimum_class_rows,
        is_timed=quarters is not None and quarters.is_unique,
    )
    return _without_leaks(proposal, rows.rename(columns=names))


def _check_request(rows: pd.DataFrame, source: str, target: str, options: InferOptions) -> None:
    names = list(rows.columns)
    duplicates = sorted({repr(name) for name in names if names.count(name) > 1})
    if duplicates:
        raise UserError(f"{source} has {', '.join(duplicates)} more than once among its columns.")
    if rows.empty or len(rows) <= len(rows.attrs.get("unread", ())):
        raise UserError(f"{source} has no rows, or most cannot be read; nothing is inferred.")
    requested = [("--target", target), ("--time", options.time), ("--group", options.group)]
    requested += [("--leave-out", column) for column in options.leave_out]
    requested += [("--date-format", column) for column in options.date_format]
    for option, column in requested:
        if column is not None and column not in names:
            hint = ""
            if pd.to_numeric(pd.Series(names), errors="coerce").notna().any():
                hint = " If these are data, --no-header calls the columns c0, c1, …."
            listed = ", ".join(names)
            raise UserError(f"{option}: {source} has no column {column!r} (it has {listed}).{hint}")


def _name_in_postgres(name: str, taken: Collection[str]) -> str:
    """A column's name in the contract: its own where PostgreSQL allows it, else one not taken."""
    # Postgres counts bytes; a few are left for a number behind the name.
    short = one_line(name).encode()[: MAX_NAME_BYTES - 6].decode(errors="ignore").strip()
    fits = short and len(name.encode()) <= MAX_NAME_BYTES and name.isprintable()
    if fits and name not in _SYSTEM_COLUMNS:
        return name
    return _free_name((short or "column",), {*taken, *_SYSTEM_COLUMNS})


def _free_name(preferred: Sequence[str], taken: Collection[str]) -> str:
    """The first preferred name that is not taken, else the first of them with a number."""
    numbered = (f"{preferred[0]}_{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain(preferred, numbered) if name not in taken)


def _columns(
    rows: pd.DataFrame, names: dict[str, str], target: str, options: InferOptions
) -> dict[str, Column]:
    left_out = {normalised(name): reason for name, reason in rows.attrs.get("left_out", {}).items()}
    left_out |= dict.fromkeys(options.leave_out, "was left out by --leave-out")

    def read(name: str, decimal: DecimalMark) -> Column:
        if name in left_out:
            return Column(names[name], "other", rows[name], left_out=left_out[name])
        form, is_target = options.date_format.get(name), name == target
        return infer_column(
            names[name], rows[name], options.missing, decimal, form, is_target=is_target
        )

    columns = {name: read(name, ".") for name in names}
    marks = {column.decimal for column in columns.values()} - {""}
    if options.decimal is not None:
        marks = {"," if options.decimal == "comma" else "."}
    if marks == {","}:
        columns = {name: read(name, ",") for name in names}
    # Where semicolons separate values, a comma may be the mark before fractions.
    is_open = len(marks) > 1 or (not marks and options.separator == "semicolon")
    questions = [
        f"{column.question} Or leave the column out, by --leave-out {name!r}."
        for name, column in columns.items()
        if column.question and (is_open or column.kind not in NUMBER_TYPES)
    ]
    if questions:
        raise UserError("\n".join(questions))
    return columns


def _target(column: Column, options: InferOptions) -> dict[str, Any]:
    is_reserved = column.name in RESERVED_RESPONSE_NAMES
    target: dict[str, Any] = {
        "column": column.name,
        "task": _task(column, options),
        "response_name": f"predicted_{column.name}" if is_reserved else column.name,
    }
    if target["task"] == "regression":
        return target | number_range(column)
    # Booleans become the text that ingestion makes of them.
    values = column.counts.index.map(int if column.kind in NUMBER_TYPES else str)
    return target | {"classes": [{"value": one, "label": str(one)} for one in sorted(values)]}


def _task(column: Column, options: InferOptions) -> Task:
    """Decide between classification and regression.

    Text and booleans are classes, and so are whole numbers with few different values that are all
    frequent, even where they are written as 0.0 and 1.0; other numbers are a regression.
    """
    looks_like_classes = column.kind not in NUMBER_TYPES or (
        column.is_whole
        and len(column.counts) <= _FEW_NUMBERS
        and (len(column.counts) <= 2 or int(column.counts.min()) >= options.minimum_class_rows)
    )
    task = options.task or ("classification" if looks_like_classes else "regression")
    row_count = len(column.values)
    if column.left_out:
        problem = column.left_out
    elif column.missing_count > _MAX_MISSING * row_count and not options.drop_missing_target:
        missing = f"is missing in {column.missing_count:,} of {row_count:,} rows"
        problem = f"{missing}: learn from the others with --drop-missing-target"
    elif column.kind in TIME_TYPES or (task == "regression" and column.kind not in NUMBER_TYPES):
        problem = f"holds {column.kind}, expected numbers"
    elif task == "classification" and column.kind in NUMBER_TYPES and not column.is_whole:
        problem = "holds fractions, which are no classes"
    elif len(column.counts) < 2:
        problem = f"has the same value in every row ({column.counts.index[0]})"
    elif task == "classification" and len(column.counts) > _MAX_CLASSES:
        problem = f"has {len(column.counts):,} classes, more than {_MAX_CLASSES}: group them"
    else:
        return task
    raise UserError(f"Target column {column.name!r} {problem}.")


def _without_leaks(proposal: Proposal, rows: pd.DataFrame) -> Proposal:
    """Check the rows as training will, and leave out features that would stop it."""
    from mlops_for_mle.pipelines.training.checks import check

    if not proposal.features:
        reasons = "".join(f"; {column.name!r} {column.left_out}" for column in proposal.left_out)
        raise UserError(
            f"{proposal.source} has no column beside the target that can be learned from{reasons}."
        )
    contract = proposal.contract()
    notation = Notation.model_validate(proposal.ingestion, extra="ignore")
    fitting, _ = check_columns(rows, contract.columns, notation)
    options = DataCheckOptions(
        maximum_single_feature_score=None, minimum_rows_per_class=proposal.minimum_class_rows
    )
    facts, problems = check(*encode_examples(fitting, contract), contract, options)
    if problems:
        raise UserError("\n".join(f"{proposal.source}: {problem}." for problem in problems))
    limit = DataCheckOptions().maximum_single_feature_score or 1.0
    scores = facts.get("single_feature_scores", {})
    leaks = {name for name, score in scores.items() if score > limit}
    if not leaks:
        return proposal
    reason = "alone tells the target, so it may be computed from it, or known only afterwards"
    remaining = [column for column in proposal.features if column.name not in leaks]
    leaking = [column for column in proposal.features if column.name in leaks]
    left_out = [*proposal.left_out, *(replace(column, left_out=reason) for column in leaking)]
    return _without_leaks(replace(proposal, features=remaining, left_out=left_out), rows)
