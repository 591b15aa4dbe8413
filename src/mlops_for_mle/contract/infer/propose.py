"""Puts a contract together: what is predicted, what is a feature, and what is left out and why."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns, encode_rows
from mlops_for_mle.contract.encoding import encode_target, encoded_columns
from mlops_for_mle.contract.infer.decide import Column, MixedError, decide, shortened
from mlops_for_mle.contract.infer.features import (
    are_told_by_gaps,
    column_names,
    describe,
    free_name,
    identifier_reason,
    number_range,
)
from mlops_for_mle.contract.model import (
    RESERVED_ANSWER_NAMES,
    Configuration,
    Name,
    Task,
    normalised,
)
from mlops_for_mle.contract.notation import Notation, NumberFormat
from mlops_for_mle.errors import SourceError, UserError
from mlops_for_mle.pipelines.training.options import DataCheckOptions

_TIME_NAMES = re.compile(
    r"(event|created|observed|recorded|logged|measured|inserted)?[ _]?(timestamp|datetime|time|at)"
    r"|(생성|관측|수집|기록|등록|측정)[ _]?(일시|시각)|일시|타임스탬프",
    re.IGNORECASE,
)
_MAXIMUM_CLASSES = 100
_FEW_NUMBERS = 20
_ROWS_A_CLASS = DataCheckOptions().minimum_rows_per_class or 1
# Ingestion holds everything back when more rows than this are bad.
_MAXIMUM_MISSING = 0.5


class Wishes(Configuration):
    """What a person says of the rows, as the options of ``kedro contract infer`` explain it."""

    leave_out: tuple[Name, ...] = ()
    missing: tuple[str, ...] = ()
    time: Name | None = None
    task: Task | None = None
    decimal: Literal["point", "comma"] | None = None
    date_format: dict[Name, str] = Field(default_factory=dict)
    drop_missing_target: bool = False
    minimum_class_rows: int = _ROWS_A_CLASS


@dataclass(frozen=True)
class Candidate:
    """A column that is a feature, or could be one.

    Attributes:
        source_name: Its name in the source; ``name`` is that in the contract.
        keys: What the contract says of it; None where it cannot be a feature.
        remark: What a person should know when reviewing it.
        left_out: Why it is no feature; None where it is one.
    """

    source_name: str
    name: str
    keys: dict[str, Any] | None = None
    remark: str = ""
    left_out: str | None = None


@dataclass(frozen=True)
class Proposal:
    """A contract and what a person should know when reviewing it.

    Attributes:
        facts: The contract without its features, as a mapping.
        candidates: The columns beside target and time, in the source's order.
        class_counts: How many rows each class has, in the contract's order.
        ingestion: What differs from the default in the options of ingestion.
        unread: Why rows cannot be read, of each.
        is_timed: Whether the source says of its rows when they were observed.
        label_noise: An estimate of the share of labels that contradict those of like rows.
    """

    facts: dict[str, Any]
    source: str
    row_count: int
    candidates: list[Candidate]
    target: Column
    class_counts: dict[int | str, int]
    ingestion: dict[str, Any]
    minimum_class_rows: int
    unread: Sequence[str]
    is_timed: bool
    label_noise: float = 0.0

    @property
    def features(self) -> list[Candidate]:
        """The columns that become features."""
        return [one for one in self.candidates if one.left_out is None]

    @property
    def left_out(self) -> list[Candidate]:
        """The columns that do not."""
        return [one for one in self.candidates if one.left_out is not None]

    def contract(self) -> Contract:
        """The contract; a ``ValidationError`` where its name or a constant target cannot be."""
        features = {one.name: one.keys for one in self.features}
        return Contract.model_validate({**self.facts, "features": features})


def propose(
    rows: pd.DataFrame, name: str, target: str, source: str, separator: str = "", **wishes: Any
) -> Proposal:
    """Propose a contract for rows as read, whose ``source`` and ``separator`` are for messages.

    Raises:
        SourceError: Something is wrong with the rows; one sentence a problem, with its remedy.
        ValidationError: The contract's name is not allowed, or the target is constant.
    """
    wish = Wishes.model_validate(wishes)
    rows = rows.rename(columns=lambda one: normalised(str(one)))
    target, time, leave_out = normalised(target), wish.time, wish.leave_out
    options = {"--target": [target], "--leave-out": leave_out, "--time": [time] if time else []}
    _check_request(rows, source, options | {"--date-format": wish.date_format})
    left_out = {normalised(one): why for one, why in rows.attrs.get("left_out", {}).items()}
    left_out |= dict.fromkeys(leave_out, "was left out by --leave-out")
    if target in left_out:
        raise SourceError(f"Target column {target!r} {left_out[target]}.")
    columns, mixed, decimal = _columns(rows.drop(columns=list(left_out)), target, wish, separator)
    left_out |= mixed
    names = column_names(list(rows.columns))
    ingestion = {
        "rename": {old: new for old, new in names.items() if new != old},
        **_notation({names[one.name]: one for one in columns.values()}, decimal),
        "drop_missing_target": wish.drop_missing_target,
    }
    answer = columns.pop(target)
    task = _task(answer, wish)
    counts = _class_counts(answer) if task == "classification" else {}
    if time and not columns[time].is_time:
        raise SourceError(f"--time: column {time!r} holds {columns[time].kind}, expected dates.")
    time = time or next((one.name for one in columns.values() if _is_time(one)), None)
    is_timed = time is not None and len(columns.pop(time).counts) > 1
    candidates = [_candidate(names[one.name], one, answer, task) for one in columns.values()]
    candidates += [Candidate(one, names[one], left_out=why) for one, why in left_out.items()]
    taken, answer_name = {*names.values()}, names[target]
    timestamp = names[time] if time else free_name(("timestamp", "observed_at"), taken)
    is_reserved = answer_name in RESERVED_ANSWER_NAMES
    predicted: dict[str, Any] = {
        "column": answer_name,
        "task": task,
        "response_name": f"predicted_{answer_name}" if is_reserved else answer_name,
    }
    if task == "regression":
        predicted |= number_range(answer)
    else:
        predicted["classes"] = [{"value": one, "label": str(one)} for one in counts]
    proposal = Proposal(
        facts={
            "name": name,
            "table": f"{name}_data",
            "key": free_name(("id", "row_id"), {*taken, timestamp}),
            "timestamp": timestamp,
            "target": predicted,
        },
        source=source,
        row_count=len(rows),
        candidates=candidates,
        target=answer,
        class_counts=counts,
        ingestion={option: one for option, one in ingestion.items() if one},
        minimum_class_rows=wish.minimum_class_rows,
        unread=[one.reason for one in rows.attrs.get("unread", {}).values()],
        is_timed=is_timed,
    )
    return _without_leaks(proposal, rows)


def _check_request(rows: pd.DataFrame, source: str, options: Mapping[str, Collection[str]]) -> None:
    names = list(rows.columns)
    twice = sorted({repr(name) for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{source} has {', '.join(twice)} more than once among its columns.")
    if rows.empty or len(rows) <= len(rows.attrs.get("unread", ())):
        raise SourceError(f"{source} has no rows, or most cannot be read; nothing is inferred.")
    for option, columns in options.items():
        for unknown in [one for one in columns if one not in names]:
            are_data = bool(pd.to_numeric(pd.Series(names), errors="coerce").notna().any())
            raise UserError(
                f"{option}: {source} has no column {unknown!r} (it has {', '.join(names)})."
                f"{' If these are data, --no-header calls the columns c0, c1, ….' * are_data}"
            )


def _columns(
    rows: pd.DataFrame, target: str, wish: Wishes, separator: str
) -> tuple[dict[str, Column], dict[str, str], Literal["point", "comma"]]:
    """What each column holds, why others can be no features, and the mark before fractions."""
    columns, mixed, problems = {}, dict[str, str](), []

    def read(name: str, decimal: str = ".") -> Column:
        # Words for true and false are classes like others.
        others, form = name != target, wish.date_format.get(name)
        return decide(
            name, rows[name], wish.missing, find_booleans=others, decimal=decimal, date_format=form
        )

    for name in rows.columns:
        try:
            columns[name] = read(name)
        except SourceError as error:
            if isinstance(error, MixedError) and name not in (target, wish.time):
                mixed[name] = str(error).removeprefix(f"Column {name!r} ").removesuffix(".")
            else:
                problems.append(f"{error} Or leave the column out, by --leave-out {name!r}.")
    marks = {one.decimal for one in columns.values()} - {""}
    if wish.decimal:
        marks = {"," if wish.decimal == "comma" else "."}
    for name, column in columns.items():
        if not column.decimal and column.is_number and marks == {","}:
            # Never refused, since what can be read with a point only has it as its mark.
            columns[name] = read(name, ",")
        elif column.other_reading and marks != {"."} and (marks or separator == "semicolon"):
            problems.append(
                f"Column {name!r} has numbers that could be others: {column.other_reading}. Say "
                "which by --decimal point or --decimal comma."
            )
    if problems:
        raise SourceError("\n".join(problems))
    return columns, mixed, "comma" if marks == {","} else "point"


def _notation(read: Mapping[str, Column], decimal: Literal["point", "comma"]) -> dict[str, Any]:
    """How columns are written, by their new names, where that is not as usual."""
    usual = NumberFormat(decimal="," if decimal == "comma" else ".")
    return {
        "decimal": decimal if decimal == "comma" else None,
        "number_formats": {
            new: one.number_format.model_dump(exclude_defaults=True)
            for new, one in read.items()
            if one.number_format and one.number_format != usual
        },
        "date_formats": {new: one.date_format for new, one in read.items() if one.date_format},
        "missing_marks": {
            new: list(one.missing_marks) for new, one in read.items() if one.missing_marks
        },
    }


def _task(column: Column, wish: Wishes) -> Task:
    """Decide between classification and regression.

    Text and booleans are classes, and so are whole numbers with few different values that are all
    frequent, even where they are written as 0.0 and 1.0; other numbers are a regression.

    Raises:
        SourceError: Nothing can be learned of it; says what to do.
    """
    counts, rows, wanted, problem = column.counts, len(column.values), wish.task, None
    is_mostly_missing = column.missing_count > _MAXIMUM_MISSING * rows
    if column.kind == "empty" or (is_mostly_missing and not wish.drop_missing_target):
        missing = f"is missing in {column.missing_count:,} of {rows:,} rows"
        problem = f"{missing}: learn from the others with --drop-missing-target"
    elif column.is_time or column.kind == "other":
        problem = f"holds {column.kind}, expected numbers or classes"
    elif wanted == "regression" and not column.is_number:
        problem = f"holds {column.kind}, but a regression needs numbers"
    elif wanted == "classification" and column.is_number and not column.is_whole:
        problem = "holds fractions, which are no classes"
    if problem is not None:
        raise SourceError(f"Target column {column.name!r} {problem}.")
    looks_like_classes = not column.is_number or (
        column.is_whole
        and len(counts) <= _FEW_NUMBERS
        and (len(counts) <= 2 or int(counts.min()) >= wish.minimum_class_rows)
    )
    return wanted or ("classification" if looks_like_classes else "regression")


def _class_counts(column: Column) -> dict[int | str, int]:
    counts = column.counts
    if len(counts) > _MAXIMUM_CLASSES:
        raise SourceError(
            f"Target column {column.name!r} has {len(counts):,} classes, at most "
            f"{_MAXIMUM_CLASSES} are allowed: group them into fewer, or name another --target."
        )
    # Booleans become the text that ingestion makes of them.
    values = counts.index.map(int if column.is_number else str)
    return dict(sorted(zip(values, counts.tolist(), strict=True)))


def _is_time(column: Column) -> bool:
    """Whether it is the time at which the row was observed, as its name says."""
    return column.is_time and _TIME_NAMES.fullmatch(column.name) is not None


def _candidate(name: str, column: Column, target: Column, task: Task) -> Candidate:
    """What becomes of a column as far as it can be told from it and the target."""
    reason = identifier_reason(column)
    if column.kind == "empty":
        reason = "is empty in every row"
    elif column.kind == "other":
        shown = shortened(column.present.iloc[0])
        reason = f"holds values such as {shown}, which no contract can hold"
    elif len(column.counts) == 1 and column.missing_count == 0:
        reason = f"has the same value in every row ({column.counts.index[0]})"
    if reason is not None:
        return Candidate(column.name, name, left_out=reason)
    is_known = target.values.notna()
    gaps, answers = column.values.isna()[is_known], target.values[is_known]
    if task == "classification" and are_told_by_gaps(gaps, answers):
        reason = "is missing or not depending on the target, so it may only be known afterwards"
    return Candidate(column.name, name, *describe(column), reason)


def _without_leaks(proposal: Proposal, rows: pd.DataFrame) -> Proposal:
    """Look at the rows as training will, and leave out what would stop it.

    Raises:
        SourceError: Nothing is left to learn from, or there is too little.
    """
    if not proposal.features:
        reasons = "".join(f"; {one.source_name!r} {one.left_out}" for one in proposal.left_out)
        raise SourceError(
            f"{proposal.source} has no column beside the target that can be learned from{reasons}."
        )
    found = _examine(proposal, rows)
    limit = DataCheckOptions().maximum_single_feature_score or 1.0
    scores = found.get("single_feature_scores", {})
    leaks = {name for name, score in scores.items() if score > limit}
    if not leaks:
        return replace(proposal, label_noise=found.get("label_noise", 0.0))
    reason = "alone tells the target, so it may only be known afterwards"
    if not proposal.class_counts:
        reason = "follows the target almost exactly, so it may be computed from it"
    candidates = [
        replace(one, left_out=reason) if one.name in leaks and one.left_out is None else one
        for one in proposal.candidates
    ]
    return _without_leaks(replace(proposal, candidates=candidates), rows)


def _examine(proposal: Proposal, rows: pd.DataFrame) -> dict[str, Any]:
    """What training's own check finds in the rows that fit the proposed contract."""
    from mlops_for_mle.pipelines.training.checks import check

    contract, options = proposal.contract(), proposal.ingestion
    renamed = rows.rename(columns=options.get("rename", {}))
    fitting, _ = check_columns(renamed, contract.columns, Notation.of(options))
    names = [column.name for column in encoded_columns(contract)]
    features = pd.DataFrame(encode_rows(fitting, contract), columns=names)
    truth = encode_target(fitting[contract.target.column].to_numpy(), contract.target)
    limits = DataCheckOptions(
        maximum_single_feature_score=None, maximum_label_noise=None, minimum_rows_per_class=None
    )
    found, problems = check(features, truth, contract, limits)
    counts, least = found.get("distinct_rows_by_class", {}), proposal.minimum_class_rows
    rare = ", ".join(f"{label!r} {rows}" for label, rows in counts.items() if rows < least)
    if rare:
        problems.append(
            f"these classes are too rare to learn, with so many distinct rows of at least {least}: "
            f"{rare}. Merge them into others, have their rows rejected by --missing CLASS, or try "
            "with fewer by --minimum-class-rows"
        )
    if problems:
        raise SourceError("\n".join(f"{proposal.source}: {one}." for one in problems))
    return found
