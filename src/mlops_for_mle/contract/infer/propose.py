"""Puts a contract together: what is predicted, what is a feature, and what is left out and why."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns, encode_rows
from mlops_for_mle.contract.encoding import encode_target, encoded_columns
from mlops_for_mle.contract.infer.decide import Column, decide, shortened
from mlops_for_mle.contract.model import (
    EXACT_BELOW,
    LONGEST_NAME,
    MAXIMUM_CATEGORIES,
    MISSING_POLICIES,
    RESERVED_ANSWER_NAMES,
    Task,
    checked_name,
)
from mlops_for_mle.errors import SourceError, UserError
from mlops_for_mle.pipelines.training.options import DataCheckOptions

_FEWEST_ROWS = 20
_IDENTIFIER_WORDS = frozenset(
    {"id", "uuid", "guid", "key", "no", "nr", "num", "number", "seq", "index", "idx", "row", "pk"}
)
_IDENTIFIER_ENDINGS = ("번호", "아이디", "식별자")
_TIME_NAMES = re.compile(
    r"(event|created|observed|recorded|logged|measured|inserted)?[ _]?(timestamp|datetime|time|at)"
    r"|(생성|관측|수집|기록|등록|측정)[ _]?(일시|시각)|일시|타임스탬프",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_MAXIMUM_CLASSES = 100
_FEW_NUMBERS = 20
_ROWS_A_CLASS = 2
_LISTED_CATEGORIES = 100
_RARE_CATEGORY_ROWS = 5
_MARGIN = 0.5
_MARGIN_YEARS = 10
# Ingestion holds everything back when more rows than this are bad.
_MAXIMUM_MISSING = 0.5
# Rows with and without a value fall apart by class, up to so many.
_LEAKING_SHARE = 0.999
# OmegaConf reads this text as "a value is missing here", and nothing can quote it.
_UNWRITABLE = "???"


@dataclass(frozen=True)
class Wishes:
    """What a person decides instead of leaving it to the inference.

    Attributes:
        leave_out: Columns that are no features, whatever they hold.
        include: Columns that are features although they look like leaks of the target.
        missing: Texts that stand for a missing value in every column.
        time: The column that says when a row was observed.
        task: What kind of prediction is wanted.
    """

    leave_out: Collection[str] = ()
    include: Collection[str] = ()
    missing: Collection[str] = ()
    time: str | None = None
    task: Task | None = None


@dataclass(frozen=True)
class Candidate:
    """A column that is a feature, or could be one.

    Attributes:
        source_name: Its name in the source.
        name: Its name in the contract.
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
        name: The contract's name.
        source: What was read, for people.
        row_count: How many rows were read.
        candidates: The columns beside target and time, in the source's order.
        target: The column that is predicted.
        target_keys: What the contract says of it.
        class_counts: How many rows each class has, in the contract's order.
        timestamp: The contract's column for when a row was observed.
        key: The contract's own serial key.
        ingestion: ``rename``, ``date_formats`` and ``missing_marks`` of the ingestion's options.
        allowed_predictors: Features that tell the target alone, and were wished for.
        label_noise: An estimate of the share of labels that contradict those of like rows.
    """

    name: str
    source: str
    row_count: int
    candidates: list[Candidate]
    target: Column
    target_keys: dict[str, Any]
    class_counts: dict[int | str, int]
    timestamp: str
    key: str
    ingestion: dict[str, dict[str, Any]]
    allowed_predictors: tuple[str, ...] = ()
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
        """The contract.

        Raises:
            ValidationError: Its name is none that a contract can have.
        """
        raw = {
            "name": self.name,
            "table": f"{self.name}_data",
            "key": self.key,
            "timestamp": self.timestamp,
            "features": {one.name: one.keys for one in self.features},
            "target": self.target_keys,
        }
        return Contract.model_validate(raw)


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
        ValidationError: The contract's name is not allowed.
    """
    wishes = wishes or Wishes()
    rows = rows.rename(columns=str)
    _check_request(rows, target, source, wishes)
    # Words for true and false are classes like others.
    answer = decide(target, rows[target], wishes.missing, find_booleans=False)
    task = _task(answer, wishes.task)
    counts = _class_counts(answer) if task == "classification" else {}
    columns, problems = {}, []
    for one in rows.columns.drop([target, *wishes.leave_out]):
        try:
            columns[one] = decide(one, rows[one], wishes.missing)
        except SourceError as error:
            problems.append(f"{error} Or leave the column out, by --leave-out {one!r}.")
    time = wishes.time or next((one for one in columns if _is_time(columns[one])), None)
    if wishes.time in columns and not columns[wishes.time].is_time:
        kind = columns[wishes.time].kind
        problems.append(f"--time: column {time!r} holds {kind}, expected dates or times.")
    names = contract_names(list(rows.columns))
    candidates = []
    for column in columns.values():
        found = _candidate(names[column.name], column, answer, task)
        if column.name in wishes.include:
            if found.keys is None:
                problems.append(f"Column {column.name!r} cannot be a feature: it {found.left_out}.")
            found = replace(found, left_out=None)
        if column.name != time:
            candidates.append(found)
    if problems:
        raise SourceError("\n".join(problems))
    candidates += [
        Candidate(one, names[one], left_out="was left out by --leave-out")
        for one in wishes.leave_out
    ]
    taken = {*names.values()}
    timestamp = names[time] if time else _free_name(("timestamp", "observed_at"), taken)
    key = _free_name(("id", "row_id"), {*taken, timestamp})
    read = {names[one.name]: one for one in (*columns.values(), answer)}
    ingestion: dict[str, dict[str, Any]] = {
        "rename": names,
        "date_formats": {new: one.date_format for new, one in read.items() if one.date_format},
        "missing_marks": {
            new: list(one.missing_marks) for new, one in read.items() if one.missing_marks
        },
    }
    proposal = Proposal(
        name=name,
        source=source,
        row_count=len(rows),
        candidates=candidates,
        target=answer,
        target_keys=_target_keys(answer, task, names[target], counts),
        class_counts=counts,
        timestamp=timestamp,
        key=key,
        ingestion=ingestion,
    )
    proposal = _without_leaks(proposal, rows, {names[one] for one in wishes.include})
    used = {*proposal.contract().columns, timestamp}
    ingestion = {
        option: {new: value for new, value in values.items() if new in used}
        for option, values in ingestion.items()
    }
    ingestion["rename"] = {old: new for old, new in names.items() if new in used and new != old}
    return replace(proposal, ingestion=ingestion)


def _check_request(rows: pd.DataFrame, target: str, source: str, wishes: Wishes) -> None:
    names = list(rows.columns)
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
    options = {"--target": [target], "--leave-out": wishes.leave_out, "--include": wishes.include}
    for option, columns in {**options, "--time": [wishes.time] if wishes.time else []}.items():
        for unknown in [one for one in columns if one not in names]:
            alike = {name.lower(): name for name in names}
            meant = [alike[one] for one in get_close_matches(unknown.lower(), alike, 1, 0.7)]
            are_data = bool(pd.to_numeric(pd.Series(names), errors="coerce").notna().any())
            raise UserError(
                f"{option}: {source} has no column {unknown!r}"
                f"{f', did you mean {meant[0]!r}?' if meant else ''} (it has {', '.join(names)})."
                f"{' If these are data, --no-header calls the columns c0, c1, ….' * are_data}"
            )


def _candidate(name: str, column: Column, target: Column, task: Task) -> Candidate:
    """What becomes of a column as far as it can be told from it and the target."""
    reason = identifier_reason(column)
    if column.kind == "empty":
        reason = "is empty in every row"
    elif column.kind == "other":
        reason = f"holds values of type {column.values.dtype}, which no contract can hold"
    elif len(column.counts) == 1 and column.missing_count == 0:
        reason = f"has the same value in every row ({column.counts.index[0]})"
    if reason is not None:
        return Candidate(column.name, name, left_out=reason)
    if task == "classification" and _is_missing_by_class(column, target):
        reason = "is missing or not depending on the target, so it may only be known afterwards"
    return Candidate(column.name, name, *_feature(column), reason)


def _without_leaks(proposal: Proposal, rows: pd.DataFrame, wanted: Collection[str]) -> Proposal:
    """Look at the rows as training will, and leave out what would stop it.

    Raises:
        SourceError: Nothing is left to learn from, or there is too little.
    """
    limit = DataCheckOptions().maximum_single_feature_score or 1.0
    reason = "alone tells the target, so it may only be known afterwards"
    if proposal.target_keys["task"] == "regression":
        reason = "follows the target almost exactly, so it may be computed from it"
    while proposal.features:
        found = _examine(proposal, rows)
        scores = found.get("single_feature_scores", {})
        telling = {name for name, score in scores.items() if score > limit}
        if telling <= {*wanted}:
            noise = found.get("label_noise", 0.0)
            return replace(proposal, allowed_predictors=tuple(sorted(telling)), label_noise=noise)
        leaks = telling - {*wanted}
        candidates = [
            replace(one, left_out=reason) if one.name in leaks and one.left_out is None else one
            for one in proposal.candidates
        ]
        proposal = replace(proposal, candidates=candidates)
    reasons = "".join(f"; {one.source_name!r} {one.left_out}" for one in proposal.left_out)
    raise SourceError(
        f"{proposal.source} has no column beside the target that can be learned from{reasons}: "
        "read more columns."
    )


def _examine(proposal: Proposal, rows: pd.DataFrame) -> dict[str, Any]:
    """What training's own check finds in the rows that fit the proposed contract."""
    from mlops_for_mle.pipelines.training.checks import check

    contract, options = proposal.contract(), proposal.ingestion
    fitting, _ = check_columns(
        rows.rename(columns=options["rename"]),
        contract.columns,
        options["date_formats"],
        missing_marks=options["missing_marks"],
    )
    names = [column.name for column in encoded_columns(contract)]
    features = pd.DataFrame(encode_rows(fitting, contract), columns=names)
    truth = encode_target(fitting[contract.target.column].to_numpy(), contract.target)
    limits = DataCheckOptions(
        maximum_single_feature_score=None, maximum_label_noise=None, minimum_rows_per_class=None
    )
    found, problems = check(features, truth, contract, limits)
    if problems:
        raise SourceError("\n".join(f"{proposal.source}: {one}." for one in problems))
    return found


def _task(column: Column, wanted: Task | None) -> Task:
    """Decide between classification and regression.

    Text and booleans are classes, and so are whole numbers with few different values, even where
    they are written as 0.0 and 1.0; other numbers are a regression.

    Raises:
        SourceError: Nothing can be learned of it; says what to do.
    """
    total, counts, problem = len(column.values), column.counts, None
    if column.missing_count > _MAXIMUM_MISSING * total:
        problem = (
            f"is missing in {column.missing_count:,} of {total:,} rows: read only rows whose "
            "outcome is known, for example with --query … WHERE … IS NOT NULL, or name"
        )
    elif column.is_time or column.kind == "other":
        problem = f"holds {column.kind}, expected numbers or classes: name"
    elif len(counts) == 1:
        problem = f"has the same value in every row ({counts.index[0]}): read others too, or name"
    elif reason := identifier_reason(column):
        problem = f"{reason} and cannot be predicted: name"
    elif wanted == "regression" and not column.is_number:
        problem = f"holds {column.kind}, but a regression needs numbers: leave out --task, or name"
    elif wanted == "classification" and column.is_number and not column.is_whole:
        problem = "holds fractions, which are no classes: leave out --task, or name"
    if problem is not None:
        raise SourceError(f"Target column {column.name!r} {problem} another --target.")
    looks_like_classes = not column.is_number or (
        column.is_whole
        and len(counts) <= _FEW_NUMBERS
        and len(counts) * _ROWS_A_CLASS <= len(column.present)
        and int(counts.min()) >= _ROWS_A_CLASS
    )
    return wanted or ("classification" if looks_like_classes else "regression")


def _class_counts(column: Column) -> dict[int | str, int]:
    name, counts = f"Target column {column.name!r}", column.counts
    if len(counts) > _MAXIMUM_CLASSES:
        raise SourceError(
            f"{name} has {len(counts):,} classes, at most {_MAXIMUM_CLASSES} are allowed: group "
            "them into fewer, or name another --target."
        )
    rare = counts[counts < _ROWS_A_CLASS]
    if len(rare):
        raise SourceError(
            f"{name} has only one row of the class {rare.index[0]!r}"
            f"{f' and of {len(rare) - 1} more' if len(rare) > 1 else ''}: a class needs at least "
            "2, one to learn from and one to validate on; add rows, or remove these."
        )
    # Booleans become the text that ingestion makes of them.
    read: Callable[[Any], int | str] = int if column.is_number else str
    return dict(sorted((read(value), int(rows)) for value, rows in counts.items()))


def _target_keys(
    column: Column, task: Task, name: str, counts: Mapping[int | str, int]
) -> dict[str, Any]:
    answer = f"predicted_{name}" if name in RESERVED_ANSWER_NAMES else name
    keys: dict[str, Any] = {"column": name, "task": task, "response_name": answer}
    if task == "classification":
        return keys | {"classes": [{"value": one, "label": str(one)} for one in counts]}
    return keys | _number_range(column)


def _feature(column: Column) -> tuple[dict[str, Any], str]:
    """What the contract says of a column, and a remark on what was seen."""
    keys: dict[str, Any] = {"type": column.kind}
    if column.is_number:
        keys |= _number_range(column)
        remark = f"seen {column.present.min():.6g} to {column.present.max():.6g}"
        if column.kind == "integer" and 2 < len(column.counts) <= 10:
            remark += f", {len(column.counts)} different; for codes without an order use category"
    elif column.is_time:
        first, last = column.present.min(), column.present.max()
        keys["earliest"] = f"{max(1, first.year - _MARGIN_YEARS):04d}-01-01"
        keys["latest"] = f"{min(9999, last.year + _MARGIN_YEARS):04d}-12-31"
        remark = f"seen {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    else:
        shown = column.counts.head(6)
        remark = ", ".join(f"{shortened(value)} {rows:,}" for value, rows in shown.items())
        rest = len(column.counts) - len(shown)
        remark += f" and {rest:,} more" if rest else ""
    if column.kind == "text":
        keys, more = _categories(column)
        remark += more
    if column.missing_count:
        allowed = MISSING_POLICIES[keys["type"]]
        preferred = ("separate", "median", "most_frequent")
        keys["missing"] = next(one for one in preferred if one in allowed)
        share = 100 * column.missing_count / len(column.values)
        remark += f"; missing in {column.missing_count:,} rows ({share:.2g} %)"
    return keys, remark


def _categories(column: Column) -> tuple[dict[str, Any], str]:
    counts = column.counts[column.counts.index != _UNWRITABLE]
    listed, remark = counts.head(_LISTED_CATEGORIES), ""
    keys: dict[str, Any] = {"type": "category", "categories": sorted(map(str, listed.index))}
    if len(listed) < len(column.counts):
        share = 100 * int(listed.sum()) / len(column.present)
        remark = (
            f"; {len(column.counts):,} different values, listed are those of {share:.3g} % "
            "of the rows, the model takes the rest as one"
        )
    if remark or int(listed.min()) < _RARE_CATEGORY_ROWS:
        keys["unknown"] = "other"
    return keys, remark


def _number_range(column: Column) -> dict[str, float | int]:
    """A range with margins: half of what was seen on either side, rounded outwards.

    A side where nothing is negative (or positive) stays so, and flags of 0 and 1 stay flags.
    """
    low, high = float(column.present.min()), float(column.present.max())
    if (low, high) == (0.0, 1.0) and column.is_whole:
        return {"minimum": 0, "maximum": 1}
    span = (high - low) or abs(high) or 1.0
    if not 1e-290 < span < 1e290:
        return {}
    digits = 1 - math.floor(math.log10(span))
    lower, upper = low - _MARGIN * span, high + _MARGIN * span
    lower = 0.0 if low >= 0 > lower else math.floor(lower * 10.0**digits)
    upper = 0.0 if high <= 0 < upper and low < 0 else math.ceil(upper * 10.0**digits)
    # Through text, because 10.0**-1 * 3 is not 0.3.
    limits = {"minimum": float(f"{lower}e{-digits}"), "maximum": float(f"{upper}e{-digits}")}
    if column.kind == "integer" and all(abs(one) < EXACT_BELOW for one in limits.values()):
        return {"minimum": math.floor(limits["minimum"]), "maximum": math.ceil(limits["maximum"])}
    return limits


def identifier_reason(column: Column) -> str | None:
    """Why a column identifies rows rather than describing them; None where it does not.

    Few rows say nothing: twenty different values are usual in twenty rows.
    """
    present, distinct = len(column.present), len(column.counts)
    if column.kind not in ("integer", "text") or present < _FEWEST_ROWS:
        return None
    words = {word.lower() for word in _WORDS.findall(column.name)}
    is_named = words & _IDENTIFIER_WORDS or column.name.rstrip().endswith(_IDENTIFIER_ENDINGS)
    is_counter = column.kind == "integer" and (
        column.present.is_monotonic_increasing
        and column.present.max() - column.present.min() + 1 == present
    )
    reason = None
    if distinct == present and (column.kind == "text" or is_named or is_counter):
        reason = f"has a different value in each of {present:,} rows, so it is an identifier"
    elif column.kind == "text" and distinct > present / 2:
        values = f"{distinct:,} different values in {present:,} rows"
        reason = f"has {values}, so it is an identifier or free text"
    elif is_named and distinct > max(100, present / 50):
        values = f"{distinct:,} different values in {present:,} rows"
        reason = f"is named like an identifier and has {values}"
    elif column.kind == "text" and distinct > MAXIMUM_CATEGORIES:
        most = f"at most {MAXIMUM_CATEGORIES:,} are allowed; group them into fewer to use it"
        reason = f"has {distinct:,} categories, {most}"
    return reason


def _is_missing_by_class(column: Column, target: Column) -> bool:
    """Whether a missing value tells the class, which no score of the feature alone shows."""
    is_known = target.values.notna()
    is_missing, classes = column.values.isna()[is_known], target.values[is_known]
    if not _FEWEST_ROWS / 4 <= is_missing.sum() <= len(classes) - _FEWEST_ROWS / 4:
        return False
    counts = pd.crosstab(is_missing.to_numpy(), classes.to_numpy()).to_numpy()
    # Where nearly all rows are of one class, answering it always would do as well.
    is_by_chance = counts.sum(axis=0).max() >= (2 * _LEAKING_SHARE - 1) * len(classes)
    return bool(counts.max(axis=1).sum() >= _LEAKING_SHARE * len(classes) and not is_by_chance)


def _is_time(column: Column) -> bool:
    """Whether it is the time at which the row was observed, as its name says."""
    return column.is_time and _TIME_NAMES.fullmatch(column.name) is not None


def contract_names(names: Sequence[str]) -> dict[str, str]:
    """The contract's name for each of some distinct columns: its own wherever Postgres takes it."""
    taken = {name for name in names if _is_allowed(name)}
    found = {}
    for number, name in enumerate(names, start=1):
        if _is_allowed(name):
            found[name] = name
            continue
        printable = "".join(one if one.isprintable() else " " for one in name)
        base = _cut(" ".join(printable.split())) or f"column_{number}"
        base = base if _is_allowed(base) else f"{base}_column"
        found[name] = _free_name((base, *(_cut(base, f"_{n}") for n in range(2, 99))), taken)
        taken.add(found[name])
    return found


def _is_allowed(name: str) -> bool:
    try:
        # Blanks are legal in Postgres, but nobody could type or see them.
        return bool(checked_name(name).strip())
    except ValueError:
        return False


def _cut(name: str, suffix: str = "") -> str:
    """Cut to the bytes that Postgres keeps, never within a character."""
    kept = name.encode(errors="ignore")[: LONGEST_NAME - len(suffix)]
    return kept.decode(errors="ignore").strip() + suffix


def _free_name(preferred: Sequence[str], taken: Collection[str]) -> str:
    more = (f"{preferred[0]}_{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (*preferred, *more) if one not in taken)
