"""Puts a contract together from the profiles of a source's columns."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.model import RESERVED_ANSWER_NAMES, Task
from mlops_for_mle.contract_inference import flags
from mlops_for_mle.contract_inference.column import Column
from mlops_for_mle.contract_inference.features import (
    ProposedFeature,
    number_range,
    propose_feature,
)
from mlops_for_mle.contract_inference.names import contract_names
from mlops_for_mle.contract_inference.profile import profile, profile_column
from mlops_for_mle.contract_inference.target import (
    InferredTarget,
    check_target_is_there,
    infer_target,
)
from mlops_for_mle.errors import SourceError, UserError


@dataclass(frozen=True)
class Wishes:
    """What a person decides about the columns instead of leaving it to the inference.

    Attributes:
        leave_out: Columns that are no features, whatever they hold.
        include: Columns that are features although they look like leaks of the target.
        time: The column that says when a row was observed.
        task: What kind of prediction is wanted.
    """

    leave_out: Collection[str] = ()
    include: Collection[str] = ()
    time: str | None = None
    task: Task | None = None


@dataclass(frozen=True)
class LeftOut:
    """A column that does not become a feature, why, and what would make it one."""

    name: str
    reason: str
    feature: ProposedFeature | None = None


@dataclass(frozen=True)
class Proposal:
    """A contract and what a person should know when reviewing it.

    Attributes:
        name: The contract's name.
        source: What was read, for people.
        row_count: How many rows were read.
        target: What is predicted.
        target_keys: What the contract says of it.
        features: The features in the source's order.
        left_out: The columns that are none.
        keys: Columns of which each row has a value of its own.
        times: Columns with dates or times.
        timestamp: The contract's column for when a row was observed.
        key: The contract's own serial key.
        rename: The contract's name for columns whose own name a table cannot have.
        date_formats: How dates are written by the contract's name, where that is not ISO 8601.
    """

    name: str
    source: str
    row_count: int
    target: InferredTarget
    target_keys: dict[str, Any]
    features: list[ProposedFeature]
    left_out: list[LeftOut]
    keys: list[str]
    times: list[str]
    timestamp: str
    key: str
    rename: dict[str, str] = field(default_factory=dict)
    date_formats: dict[str, str] = field(default_factory=dict)

    def raw_contract(self) -> dict[str, Any]:
        """The parameters block ``contract``."""
        return {
            "name": self.name,
            "table": f"{self.name}_data",
            "key": self.key,
            "timestamp": self.timestamp,
            "features": {one.name: one.keys for one in self.features},
            "target": self.target_keys,
        }

    def contract(self) -> Contract:
        """The contract."""
        return Contract.model_validate(self.raw_contract())


def propose(
    rows: pd.DataFrame, name: str, target: str, source: str, wishes: Wishes | None = None
) -> Proposal:
    """Propose a contract for rows.

    Args:
        rows: As read, text or typed values.
        name: The contract's name.
        target: The column that is predicted.
        source: What was read, for messages.
        wishes: What a person decided beforehand.

    Raises:
        SourceError: Something is wrong with the rows; one sentence a problem, with its remedy.
        ConfigurationError: The contract's name is not allowed.
    """
    wishes = wishes or Wishes()
    names = [str(column) for column in rows.columns]
    _check_shape(rows, names, source)
    check_target_is_there(names, target, source)
    _check_wishes(wishes, names, target, source)
    rows = rows.set_axis(names, axis="columns")
    # Words for true and false are classes like others.
    found = infer_target(profile_column(target, rows[target], find_booleans=False), wishes.task)
    wanted = [one for one in names if one != target and one not in wishes.leave_out]
    columns = profile(rows.loc[:, wanted])
    new_names = contract_names(names)
    time = wishes.time or next((one.name for one in columns if flags.is_named_as_time(one)), None)
    features, left_out, problems = _sort(columns, found, wishes, new_names, time)
    if problems:
        raise SourceError("\n".join(problems))
    if not features:
        reasons = "".join(f"; {one.name!r} {one.reason}" for one in left_out)
        raise SourceError(
            f"{source} has no column beside the target that can be learned from{reasons}: read "
            "more columns."
        )
    taken = {*new_names.values()}
    used = {one.name for one in features} | {new_names[target]}
    timestamp = new_names[time] if time else _free_name(("timestamp", "observed_at"), taken)
    source_names = {new: old for old, new in new_names.items()}
    proposal = Proposal(
        name=name,
        source=source,
        row_count=len(rows),
        target=found,
        target_keys=_target_keys(found, new_names[target]),
        features=features,
        left_out=[
            *left_out,
            *(LeftOut(one, "was left out by --leave-out") for one in wishes.leave_out),
        ],
        keys=[one.name for one in columns if flags.is_candidate_key(one)],
        times=[one.name for one in columns if one.is_time],
        timestamp=timestamp,
        key=_free_name(("id", "row_id"), {*taken, timestamp}),
        rename={
            source_names[one]: one
            for one in sorted(used | {timestamp})
            if source_names.get(one, one) != one
        },
        date_formats={
            new_names[one.name]: one.date_format
            for one in columns
            if one.date_format is not None and new_names[one.name] in {*used, timestamp}
        },
    )
    proposal.contract()
    return proposal


def _check_shape(rows: pd.DataFrame, names: Sequence[str], source: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(
            f"{source} has {', '.join(f'{name!r} {names.count(name)} times' for name in twice)} "
            "among its columns: give each column a name of its own."
        )
    if rows.empty:
        raise SourceError(
            f"{source} has no rows, so nothing can be inferred: read at least a few dozen."
        )


def _check_wishes(wishes: Wishes, names: Sequence[str], target: str, source: str) -> None:
    options = {"--leave-out": wishes.leave_out, "--include": wishes.include}
    if wishes.time is not None:
        options["--time"] = [wishes.time]
    for option, columns in options.items():
        unknown = [one for one in columns if one not in names]
        if unknown:
            raise UserError(
                f"{option}: {source} has no column {unknown[0]!r}; it has {', '.join(names)}."
            )
        if target in columns:
            raise UserError(f"{option}: {target!r} is the target already.")
    both = sorted(set(wishes.leave_out) & {*wishes.include, wishes.time})
    if both:
        raise UserError(f"--leave-out: {both[0]!r} is named by another option too.")


def _sort(
    columns: list[Column],
    target: InferredTarget,
    wishes: Wishes,
    new_names: dict[str, str],
    time: str | None,
) -> tuple[list[ProposedFeature], list[LeftOut], list[str]]:
    """Sort columns into features, those that are left out, and sentences on those in the way."""
    features: list[ProposedFeature] = []
    left_out: list[LeftOut] = []
    problems: list[str] = []
    for column in columns:
        name = column.name
        impossible = (
            flags.useless_reason(column)
            or flags.identifier_reason(column)
            or flags.many_categories_reason(column)
        )
        if name == time:
            problem = column.problem or _time_problem(column)
            problems += [problem] if problem else []
        elif column.problem is not None:
            problems.append(column.problem)
        elif impossible is not None and name in wishes.include:
            problems.append(f"Column {name!r} cannot be a feature: it {impossible}.")
        elif impossible is not None:
            left_out.append(LeftOut(name, impossible))
        else:
            feature = propose_feature(new_names[name], column)
            is_wanted = name in wishes.include
            leak = flags.leak_reason(column, target.column, target.task == "regression")
            if leak is not None and not is_wanted:
                left_out.append(LeftOut(name, leak, feature))
            else:
                features.append(feature)
    return features, left_out, problems


def _time_problem(column: Column) -> str | None:
    if column.is_time:
        return None
    return f"--time: column {column.name!r} holds {column.kind}, expected dates or times."


def _target_keys(target: InferredTarget, name: str) -> dict[str, Any]:
    is_reserved = name in RESERVED_ANSWER_NAMES
    keys: dict[str, Any] = {
        "column": name,
        "task": target.task,
        "response_name": f"predicted_{name}" if is_reserved else name,
    }
    if target.task == "classification":
        keys["classes"] = [{"value": one, "label": str(one)} for one in target.counts]
        return keys
    return {**keys, **number_range(target.column)}


def _free_name(preferred: Sequence[str], taken: Collection[str]) -> str:
    for name in preferred:
        if name not in taken:
            return name
    number = 2
    while f"{preferred[0]}_{number}" in taken:
        number += 1
    return f"{preferred[0]}_{number}"
