"""Puts a contract together: what is predicted, what is a feature, and what is left out and why."""

import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns, encode_rows
from mlops_for_mle.contract.encoding import encode_target, encoded_columns
from mlops_for_mle.contract.infer.decide import Column, decide, shortened
from mlops_for_mle.contract.model import (
    LONGEST_NAME,
    MAXIMUM_CATEGORIES,
    MISSING_POLICIES,
    RESERVED_ANSWER_NAMES,
    Task,
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
# Every table of PostgreSQL has columns of these names.
_SYSTEM_COLUMNS = frozenset({"cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"})

_MAXIMUM_CLASSES = 100
_FEW_NUMBERS = 20
_ROWS_A_CLASS = DataCheckOptions().minimum_rows_per_class or 1
_LISTED_CATEGORIES = 100
_RARE_CATEGORY_ROWS = 5
_SENTINELS = frozenset({-99999, -9999, -999, -99, 999, 9999, 99999})
_MARGIN = 0.5
_MARGIN_YEARS = 10
# Ingestion holds everything back when more rows than this are bad.
_MAXIMUM_MISSING = 0.5
# Rows with and without a value fall apart by class, up to so many.
_LEAKING_SHARE = 0.999


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
        facts: The contract without its features, as a mapping.
        source: What was read, for people.
        row_count: How many rows were read.
        candidates: The columns beside target and time, in the source's order.
        target: The column that is predicted.
        class_counts: How many rows each class has, in the contract's order.
        ingestion: ``rename``, ``date_formats`` and ``missing_marks`` of the ingestion's options.
        label_noise: An estimate of the share of labels that contradict those of like rows.
        is_timed: Whether the source says of its rows when they were observed.
    """

    facts: dict[str, Any]
    source: str
    row_count: int
    candidates: list[Candidate]
    target: Column
    class_counts: dict[int | str, int]
    ingestion: dict[str, dict[str, Any]]
    label_noise: float = 0.0
    is_timed: bool = False

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
            ValidationError: Its name is none that a contract can have, or the target is constant.
        """
        features = {one.name: one.keys for one in self.features}
        return Contract.model_validate({**self.facts, "features": features})


def propose(
    rows: pd.DataFrame,
    name: str,
    target: str,
    source: str,
    *,
    leave_out: Collection[str] = (),
    missing: Collection[str] = (),
    time: str | None = None,
    task: Task | None = None,
) -> Proposal:
    """Propose a contract for rows.

    Args:
        rows: As read, text or typed values.
        name: The contract's name.
        target: The column that is predicted.
        source: What was read, for messages.
        leave_out: Columns that are no features, whatever they hold.
        missing: Texts that stand for a missing value in every column.
        time: The column that says when a row was observed.
        task: What kind of prediction is wanted.

    Raises:
        SourceError: Something is wrong with the rows; one sentence a problem, with its remedy.
        ValidationError: The contract's name is not allowed, or the target is constant.
    """
    rows = rows.rename(columns=str)
    options = {"--target": [target], "--leave-out": leave_out, "--time": [time] if time else []}
    _check_request(rows, source, options)
    # Words for true and false are classes like others.
    answer = decide(target, rows[target], missing, find_booleans=False)
    task = _task(answer, task)
    counts = _class_counts(answer) if task == "classification" else {}
    columns, problems = {}, []
    for one in rows.columns.drop([target, *leave_out]):
        try:
            columns[one] = decide(one, rows[one], missing)
        except SourceError as error:
            problems.append(f"{error} Or leave the column out, by --leave-out {one!r}.")
    if time in columns and not columns[time].is_time:
        problems.append(f"--time: column {time!r} holds {columns[time].kind}, expected dates.")
    time = time or next((one for one in columns if _is_time(columns[one])), None)
    names = contract_names(list(rows.columns))
    if problems:
        raise SourceError("\n".join(problems))
    candidates = [
        _candidate(names[one.name], one, answer, task)
        for one in columns.values()
        if one.name != time
    ]
    wished = "was left out by --leave-out"
    candidates += [Candidate(one, names[one], left_out=wished) for one in leave_out]
    taken, answer_name = {*names.values()}, names[target]
    timestamp = names[time] if time else _free_name(("timestamp", "observed_at"), taken)
    is_reserved = answer_name in RESERVED_ANSWER_NAMES
    predicted: dict[str, Any] = {
        "column": answer_name,
        "task": task,
        "response_name": f"predicted_{answer_name}" if is_reserved else answer_name,
    }
    if task == "regression":
        predicted |= _number_range(answer)
    else:
        predicted["classes"] = [{"value": one, "label": str(one)} for one in counts]
    facts = {
        "name": name,
        "table": f"{name}_data",
        "key": _free_name(("id", "row_id"), {*taken, timestamp}),
        "timestamp": timestamp,
        "target": predicted,
    }
    read = {names[one.name]: one for one in (*columns.values(), answer)}
    marks = {new: list(one.missing_marks) for new, one in read.items()}
    ingestion: dict[str, dict[str, Any]] = {
        "rename": {old: new for old, new in names.items() if new != old},
        "date_formats": {new: one.date_format for new, one in read.items() if one.date_format},
        "missing_marks": {new: texts for new, texts in marks.items() if texts},
    }
    proposal = Proposal(facts, source, len(rows), candidates, answer, counts, ingestion)
    is_timed = time is not None and len(columns[time].counts) > 1
    return _without_leaks(replace(proposal, is_timed=is_timed), rows)


def _check_request(rows: pd.DataFrame, source: str, options: Mapping[str, Collection[str]]) -> None:
    names = list(rows.columns)
    twice = sorted({repr(name) for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{source} has {', '.join(twice)} more than once among its columns.")
    if rows.empty:
        raise SourceError(f"{source} has no rows, so nothing can be inferred.")
    for option, columns in options.items():
        for unknown in [one for one in columns if one not in names]:
            are_data = bool(pd.to_numeric(pd.Series(names), errors="coerce").notna().any())
            raise UserError(
                f"{option}: {source} has no column {unknown!r} (it has {', '.join(names)})."
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


def _without_leaks(proposal: Proposal, rows: pd.DataFrame) -> Proposal:
    """Look at the rows as training will, and leave out what would stop it.

    Raises:
        SourceError: Nothing is left to learn from, or there is too little.
    """
    limit = DataCheckOptions().maximum_single_feature_score or 1.0
    reason = "alone tells the target, so it may only be known afterwards"
    if not proposal.class_counts:
        reason = "follows the target almost exactly, so it may be computed from it"
    if not proposal.features:
        reasons = "".join(f"; {one.source_name!r} {one.left_out}" for one in proposal.left_out)
        raise SourceError(
            f"{proposal.source} has no column beside the target that can be learned from{reasons}."
        )
    found = _examine(proposal, rows)
    scores = found.get("single_feature_scores", {})
    leaks = {name for name, score in scores.items() if score > limit}
    if leaks:
        candidates = [
            replace(one, left_out=reason) if one.name in leaks and one.left_out is None else one
            for one in proposal.candidates
        ]
        return _without_leaks(replace(proposal, candidates=candidates), rows)
    return replace(proposal, label_noise=found.get("label_noise", 0.0))


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

    Text and booleans are classes, and so are whole numbers with few different values that are all
    frequent, even where they are written as 0.0 and 1.0; other numbers are a regression.

    Raises:
        SourceError: Nothing can be learned of it; says what to do.
    """
    counts, problem = column.counts, None
    if column.missing_count > _MAXIMUM_MISSING * len(column.values):
        problem = (
            f"is missing in {column.missing_count:,} of {len(column.values):,} rows: read only "
            "rows whose outcome is known, for example with --query … WHERE … IS NOT NULL"
        )
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
        and (len(counts) <= 2 or int(counts.min()) >= _ROWS_A_CLASS)
    )
    return wanted or ("classification" if looks_like_classes else "regression")


def _class_counts(column: Column) -> dict[int | str, int]:
    counts, name = column.counts, f"Target column {column.name!r}"
    if len(counts) > _MAXIMUM_CLASSES:
        raise SourceError(
            f"{name} has {len(counts):,} classes, at most {_MAXIMUM_CLASSES} are allowed: group "
            "them into fewer, or name another --target."
        )
    rare = [f"{value!r} {rows}" for value, rows in counts.items() if rows < _ROWS_A_CLASS]
    if rare:
        raise SourceError(
            f"{name} has classes that are too rare to learn, with so many rows: {', '.join(rare)} "
            f"({_ROWS_A_CLASS} are needed): add rows, merge these classes into others, or leave "
            "out their rows."
        )
    # Booleans become the text that ingestion makes of them.
    values = counts.index.map(int if column.is_number else str)
    return dict(sorted(zip(values, counts.tolist(), strict=True)))


def _feature(column: Column) -> tuple[dict[str, Any], str]:
    """What the contract says of a column, and a remark on what was seen."""
    keys: dict[str, Any] = {"type": column.kind}
    if column.is_number:
        keys |= _number_range(column)
        low, high = column.present.min(), column.present.max()
        remark = f"seen {low:.6g} to {high:.6g}"
        marks = [f"{one:g}" for one in (low, high) if one in _SENTINELS]
        if marks:
            remark += f"; does {' or '.join(marks)} stand for a missing value? See --missing"
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
        listed = column.counts.head(_LISTED_CATEGORIES)
        keys = {"type": "category", "categories": sorted(map(str, listed.index))}
        if len(listed) < len(column.counts) or int(listed.min()) < _RARE_CATEGORY_ROWS:
            keys["unknown"] = "other"
    if column.missing_count:
        allowed = MISSING_POLICIES[keys["type"]]
        preferred = ("separate", "median", "most_frequent")
        keys["missing"] = next(one for one in preferred if one in allowed)
        share = 100 * column.missing_count / len(column.values)
        remark += f"; missing in {column.missing_count:,} rows ({share:.2g} %)"
    return keys, remark


def _number_range(column: Column) -> dict[str, Any]:
    """A range with margins: half of what was seen on either side.

    A side where nothing is negative (or positive) stays so, and flags of 0 and 1 stay flags.
    """
    low, high = float(column.present.min()), float(column.present.max())
    if (low, high) == (0.0, 1.0) and column.is_whole:
        return {"minimum": 0, "maximum": 1}
    span = (high - low) or abs(high) or 1.0
    if not math.isfinite(2 * span):
        return {}
    digits = 1 - math.floor(math.log10(span))
    lower, upper = round(low - _MARGIN * span, digits), round(high + _MARGIN * span, digits)
    lower, upper = (
        (0.0 if low >= 0 > lower else lower),
        (0.0 if low < 0 and high <= 0 < upper else upper),
    )
    if column.kind == "integer":
        return {"minimum": math.floor(lower), "maximum": math.ceil(upper)}
    return {"minimum": lower, "maximum": upper}


def identifier_reason(column: Column) -> str | None:
    """Why a column identifies rows rather than describing them; None where it does not.

    Few rows say nothing: twenty different values are usual in twenty rows.
    """
    present, distinct = len(column.present), len(column.counts)
    if column.kind not in ("integer", "text") or present < _FEWEST_ROWS:
        return None
    # Not a number of something, such as "number of trades".
    words = [word.lower() for word in _WORDS.findall(column.name)]
    is_named = {*words[-1:]} <= _IDENTIFIER_WORDS if words else False
    is_named = is_named or column.name.rstrip().endswith(_IDENTIFIER_ENDINGS)
    if column.kind == "text":
        is_identifier = distinct > min(present / 2, MAXIMUM_CATEGORIES)
    else:
        steps = np.diff(column.present.to_numpy())
        is_counter = distinct == present and bool((steps == 1).all())
        is_identifier = is_counter or (is_named and distinct == present)
    if is_identifier or (is_named and distinct > max(100, present / 50)):
        values = f"{distinct:,} different values in {present:,} rows"
        return f"has {values}, so it is an identifier or free text"
    return None


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
    found = {name: name for name in names if _is_allowed(name)}
    taken = {*found, *_SYSTEM_COLUMNS}
    for number, name in enumerate(names, start=1):
        if name not in found:
            printable = "".join(one if one.isprintable() else " " for one in name)
            # Bytes are what Postgres counts; a few are for a number behind the name.
            kept = " ".join(printable.split()).encode()[: LONGEST_NAME - 6]
            base = kept.decode(errors="ignore").strip() or f"column_{number}"
            found[name] = _free_name((base,), taken)
            taken.add(found[name])
    return found


def _is_allowed(name: str) -> bool:
    # Blanks alone are legal in Postgres, but nobody could type or see them.
    is_visible = name.isprintable() and bool(name.strip())
    return is_visible and len(name.encode()) <= LONGEST_NAME and name not in _SYSTEM_COLUMNS


def _free_name(preferred: Sequence[str], taken: Collection[str]) -> str:
    more = (f"{preferred[0]}_{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain(preferred, more) if one not in taken)
