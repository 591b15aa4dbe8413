"""A window of predictions, counted by Postgres: nothing but counts and sums leaves it.

So memory does not depend on the window. Names of features and categories are data here, and always
bound parameters. What does not fit its column is counted, never an error.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.columns import check_columns
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.reference import Column, Reference, Segment

# Answers statements, each with its parameters, by their rows; all of them see the same moment.
PredictionLog = Callable[[list[tuple[str, dict[str, Any]]]], list[Sequence[Any]]]


@dataclass(frozen=True)
class ColumnCounts:
    """How the window's values of one column lie.

    ``bins`` are those of ``Column.edges``; the first of categories has the unknown ones.
    """

    bins: tuple[int, ...]
    missing: int = 0
    wrong_type: int = 0
    out_of_range: int = 0
    mean: float | None = None


@dataclass(frozen=True)
class Cell:
    """Labelled predictions of a classification that were answered and labelled alike.

    Classes are their places in the contract's order, None for others. ``expected`` is how many were
    expected to be right.
    """

    predicted: int | None
    actual: int | None
    count: int
    expected: float = 0.0

    @property
    def right(self) -> int:
        """How many were answered with their true class."""
        return self.count if self.predicted is not None and self.predicted == self.actual else 0


@dataclass(frozen=True)
class ErrorSums:
    """Sums over labelled predictions of a regression, in standard deviations of the target.

    They are sums of powers of the error, and of the target less the reference's mean answer.
    """

    count: int = 0
    absolute: float = 0.0
    square: float = 0.0
    fourth: float = 0.0
    target: float = 0.0
    target_square: float = 0.0


@dataclass(frozen=True)
class Window:
    """A window of the deployed release's predictions, and the newest labelled ones.

    ``ahead`` counts those that claim to have been answered in the future, in no window. What is
    ``expected`` is the share of right answers, or the mean error as ``Expectation`` has it.
    ``parts`` has the same of each part of a segment, by its name.
    """

    features: dict[str, ColumnCounts]
    prediction: ColumnCounts
    row_count: int = 0
    window_from: datetime | None = None
    window_to: datetime | None = None
    age_seconds: float | None = None
    ahead: int = 0
    expected: float | None = None
    cells: tuple[Cell, ...] = ()
    errors: ErrorSums = ErrorSums()
    labelled_from: datetime | None = None
    labelled_to: datetime | None = None
    parts: dict[str, "Window"] = field(default_factory=dict)

    @property
    def labelled_count(self) -> int:
        """How many labelled predictions were looked at."""
        return sum(cell.count for cell in self.cells) + self.errors.count


# Buckets of what is in no bin.
_MISSING, _WRONG_TYPE = -1, -2
_NAN = "CAST('NaN' AS float8)"

# The calendar dates and times of ISO 8601 that the API takes; without an offset they are UTC.
_HOUR, _MINUTE = "([01][0-9]|2[0-3])", "([0-5][0-9])"
_ISO = (
    "^(?!0000)([0-9]{4})-?(0[1-9]|1[0-2])-?([0-3][0-9])"
    f"(?:.{_HOUR}(?::?{_MINUTE}(?::?([0-5][0-9](?:[.,][0-9]+)?))?)?"
    f"(?:Z|([+-]){_HOUR}(?::?{_MINUTE})?)?)?$"
)

_RELEASE = "predictions.contract = :contract AND predictions.release = :release"
_SPAN = f"{_RELEASE} AND predictions.created_at > :since AND predictions.created_at <= :until"
_NEWEST = "ORDER BY predictions.created_at DESC, predictions.prediction_id DESC"
_WINDOW = f"{_SPAN} AND (predictions.created_at, prediction_id) >= (:first_at, :first_id)"

# Clocks differ by some seconds; predictions that are dated further ahead are a finding.
_NOW = f"""
SELECT now(), count(*) FROM predictions
WHERE {_RELEASE} AND created_at > now() + interval '1 minute'
"""
_BEGIN = f"""
SELECT created_at, prediction_id FROM predictions WHERE {_SPAN} {_NEWEST} OFFSET :skipped LIMIT 1
"""
_OVERVIEW = f"""
SELECT {{segment}} AS segment, count(*) AS row_count,
       min(created_at) AS window_from, max(created_at) AS window_to,
       CAST(extract(epoch FROM :until - max(created_at)) AS float8) AS age_seconds,
       avg({{expected}}) AS expected
FROM predictions WHERE {_WINDOW} GROUP BY 1
"""
# One scan for all columns. A function in FROM is called once a row, so that each value is read
# once, and lets Postgres work in parallel, as a subquery that keeps it from repeating would not.
_COLUMNS = f"""
SELECT segment, position, bucket, count(*) AS rows, sum(relative) AS sum,
       count(*) FILTER (WHERE number < minimum OR number > maximum) AS outside
FROM (
    SELECT {{segment}} AS segment, position, number, minimum, maximum,
           (number - centre) / scale AS relative,
           CASE WHEN number IS NULL THEN {_MISSING} WHEN number = {_NAN} THEN {_WRONG_TYPE}
           ELSE width_bucket(number, edges) END AS bucket
    FROM predictions
    CROSS JOIN LATERAL unnest(ARRAY[{{values}}]) WITH ORDINALITY AS value(number, position)
    JOIN jsonb_to_recordset(CAST(:columns AS jsonb)) AS described(position bigint,
        edges float8[], minimum float8, maximum float8, centre float8, scale float8)
        USING (position)
    WHERE {_WINDOW}
) AS counted
GROUP BY segment, position, bucket
"""
_LABELLED = f"""
SELECT {{segment}} AS segment, predictions.created_at AS answered_at,
       {{expected}} AS expected, prediction, target
FROM predictions JOIN feedback USING (prediction_id)
WHERE feedback.superseded_at IS NULL AND {_SPAN} {{newest}}
"""
_CELLS = f"""
SELECT segment, min(answered_at) AS first, max(answered_at) AS last,
       predicted - 1 AS predicted, actual - 1 AS actual, count(*) AS count,
       -- Of what no probability is known, what is true was expected.
       sum(coalesce(expected, CASE WHEN predicted = actual THEN 1 ELSE 0 END)) AS expected
FROM (
    SELECT segment, answered_at, expected,
           array_position(CAST(:codes AS float8[]), prediction) AS predicted,
           array_position(CAST(:codes AS float8[]), target) AS actual
    FROM ({_LABELLED}) AS labelled
) AS rated
GROUP BY segment, predicted, actual
"""
# Bounded, so that fourth powers stay within a double's range.
_ERRORS = f"""
SELECT segment, min(answered_at) AS first, max(answered_at) AS last, count(*) AS count,
       sum(abs(error)) AS absolute, sum(error ^ 2) AS square, sum(error ^ 4) AS fourth,
       sum(moved) AS target, sum(moved ^ 2) AS target_square
FROM (
    SELECT segment, answered_at,
           least(greatest((prediction - target) / :scale, -1e50), 1e50) AS error,
           least(greatest((target - :centre) / :scale, -1e50), 1e50) AS moved
    FROM ({_LABELLED}) AS labelled
) AS measured
GROUP BY segment
"""
_LABELLED_ROWS = f"""
SELECT features, target FROM predictions JOIN feedback USING (prediction_id)
WHERE predictions.contract = :contract AND superseded_at IS NULL
  AND predictions.created_at >= :since AND predictions.created_at <= now()
{_NEWEST} LIMIT :most
"""


def count_window(
    reference: Reference, prediction_log: PredictionLog, monitoring: MonitoringOptions
) -> Window:
    """Count the newest predictions of the deployed release into the reference's bins.

    What an earlier version did is not laid to the new one's charge, and no window holds what claims
    to have been answered in the future.
    """
    options, target = monitoring.window, reference.contract.target
    bound: dict[str, Any] = {
        "contract": reference.contract.name,
        "release": reference.manifest.release,
    }
    [[(now, ahead)]] = prediction_log([(_NOW, bound)])
    until = min(options.until or now, now)
    since = "-infinity" if options.hours is None else until - timedelta(hours=options.hours)
    bound |= {
        "since": since,
        "until": until,
        "first_at": "-infinity",
        "first_id": "",
        "codes": [float(code) for code in target.class_codes],
        "centre": reference.prediction.centre,
        "scale": reference.target_scale,
    }
    newest = ""
    if options.rows is not None:
        newest = f"{_NEWEST} LIMIT {options.rows}"
        [begin] = prediction_log([(_BEGIN, bound | {"skipped": options.rows - 1})])
        for first in begin:
            bound |= {"first_at": first.created_at, "first_id": first.prediction_id}
    columns = (*reference.features, reference.prediction)
    values, described = _describe(columns)
    expected, learned = _expect(reference)
    bound |= described | learned
    labelled = _CELLS if target.classes else _ERRORS
    segments = [("0", {0: ""}), *(_tell_apart(one, reference) for one in reference.segments)]
    statements = [
        statement.format(segment=segment, expected=expected, values=values, newest=newest)
        for segment, _ in segments
        for statement in (_OVERVIEW, _COLUMNS, labelled)
    ]
    found = prediction_log([(one, bound) for one in statements])
    windows: dict[str, Window] = {}
    for (_, names), *answers in zip(segments, found[::3], found[1::3], found[2::3], strict=True):
        for key, name in names.items():
            own = ([row for row in rows if row.segment == key] for rows in answers)
            windows[name] = _window(columns, *own)
    return replace(windows.pop(""), ahead=ahead, parts=windows)


def labelled_rows(
    prediction_log: PredictionLog, contract: Contract, since: datetime | None, most: int
) -> pd.DataFrame:
    """The newest predictions with a true label, by whichever release, as rows of the table."""
    bound = {"contract": contract.name, "since": since or "-infinity", "most": most}
    [newest_first] = prediction_log([(_LABELLED_ROWS, bound)])
    rows, target = newest_first[::-1], contract.target
    columns = {name: [row.features.get(name) for row in rows] for name in contract.features}
    columns[target.column] = [
        target.values[int(row.target)] if target.classes else row.target for row in rows
    ]
    return check_columns(pd.DataFrame(columns, dtype=object), contract.columns)[0]


def _window(
    columns: Sequence[Column], overview: list[Any], buckets: list[Any], rated: list[Any]
) -> Window:
    """What was counted of all columns, the last of which is the prediction."""
    *features, prediction = (
        _column_counts(one, [row for row in buckets if row.position == position])
        for position, one in enumerate(columns, start=1)
    )
    sums = [{name: row._mapping[name] for name in row._fields[3:]} for row in rated]
    is_classified = columns[-1].kind == "class"
    facts = {name: row._mapping[name] for row in overview for name in row._fields[1:]}
    return Window(
        **facts,
        features={one.name: counts for one, counts in zip(columns, features, strict=False)},
        prediction=prediction,
        cells=tuple(Cell(**one) for one in sums) if is_classified else (),
        errors=ErrorSums(**sums[0]) if sums and not is_classified else ErrorSums(),
        labelled_from=min((row.first for row in rated), default=None),
        labelled_to=max((row.last for row in rated), default=None),
    )


def _describe(columns: Iterable[Column]) -> tuple[str, dict[str, Any]]:
    """SQL that reads features and answers as numbers, and its parameters."""
    read: list[str] = []
    described: list[dict[str, Any]] = []
    values: dict[str, Any] = {"iso": _ISO}
    for position, one in enumerate(columns, start=1):
        read.append(_read(one, f"name{position}", f"categories{position}"))
        values |= {f"name{position}": one.name, f"categories{position}": [*one.categories]}
        described.append({"position": position, **vars(one)})
    return ", ".join(read), values | {"columns": json.dumps(described)}


def _expect(reference: Reference) -> tuple[str, dict[str, Any]]:
    """SQL of how good an answer is expected to be, as ``Expectation`` says, and its parameters."""
    learned = reference.expectation
    if learned is None:
        return "CAST(NULL AS float8)", {}
    if learned.errors:
        place = "width_bucket(prediction, CAST(:edges AS float8[])) + 1"
        bound = {"edges": [*reference.prediction.edges], "expected_errors": [*learned.errors]}
        return f"(CAST(:expected_errors AS float8[]))[{place}]", bound
    said = "probabilities[array_position(CAST(:codes AS float8[]), prediction)]"
    right = f"least(greatest({said}, 0), 1) + CAST(:surplus AS float8)"
    return f"CASE WHEN {said} IS NOT NULL THEN {right} END", {"surplus": learned.surplus}


def _tell_apart(one: Segment, reference: Reference) -> tuple[str, dict[int, str]]:
    """SQL of the number by which ``Segment.names`` knows a row's part, and these."""
    place = [*reference.contract.features].index(one.feature)
    number = _read(reference.features[place], f"name{place + 1}", f"categories{place + 1}")
    if one.by is not None:
        part = "isodow" if one.by == "weekday" else one.by
        moment = f"to_timestamp(nullif({number}, {_NAN})) AT TIME ZONE 'UTC'"
        number = f"extract({part} FROM {moment})"
    return f"CAST({number} AS float8)", one.names


def _read(one: Column, name: str, categories: str) -> str:
    """SQL that reads a value as a number: null where it is missing, NaN if of another type."""
    if one.kind == "class":
        return "coalesce(array_position(CAST(:codes AS float8[]), prediction), 0)"
    if one.kind == "answer":
        return f"CASE WHEN abs(prediction) < 1e100 THEN prediction ELSE {_NAN} END"
    value = f"(features -> CAST(:{name} AS text))"
    number, words = f"CAST({value} AS numeric)", f"({value} #>> CAST(ARRAY[] AS text[]))"
    kind = f"coalesce(jsonb_typeof({value}), 'null')"
    if one.kind == "time":
        read = f"WHEN 'string' THEN {_read_time(words)}"
    elif one.kind == "category":
        # 3 and 3.0 are one category.
        plain = (
            f"CASE {kind} WHEN 'number' THEN CAST(trim_scale({number}) AS text) ELSE {words} END"
        )
        place = f"coalesce(array_position(CAST(:{categories} AS text[]), {plain}), 0)"
        read = " ".join(f"WHEN '{one}' THEN {place}" for one in ("string", "number", "boolean"))
    else:
        # Larger numbers are no measurements, and sums of them would not be finite.
        fits = f"abs({number}) < 1e100"
        if one.kind == "whole":
            fits += f" AND {number} = trunc({number})"
        read = f"WHEN 'number' THEN CASE WHEN {fits} THEN CAST({value} AS float8) ELSE {_NAN} END"
    return f"CASE {kind} WHEN 'null' THEN NULL {read} ELSE {_NAN} END"


def _read_time(words: str) -> str:
    """SQL that reads a date or time as seconds since 1970, UTC; NaN where it is none.

    Postgres' own conversion fails on the first text that is no time, takes the session's zone where
    none is given, and has no form before version 16 that does not.
    """
    year, month, day = (f"CAST(part[{number}] AS int)" for number in (1, 2, 3))
    hour, minute, offset_hour, offset_minute = (
        f"coalesce(CAST(part[{number}] AS int), 0)" for number in (4, 5, 8, 9)
    )
    date = f"(make_date({year}, {month}, 1) + {day} - 1)"
    second = "coalesce(CAST(replace(part[6], ',', '.') AS float8), 0)"
    offset = f"CAST(coalesce(part[7], '+') || '1' AS int) * ({offset_hour} * 60 + {offset_minute})"
    return f"""(
        SELECT CASE WHEN extract(month FROM {date}) = {month}
        THEN extract(epoch FROM {date}) + ({hour} * 60 + {minute} - {offset}) * 60 + {second}
        ELSE {_NAN} END FROM regexp_match({words}, :iso) AS found(part)
    )"""


def _column_counts(one: Column, rows: Sequence[Any]) -> ColumnCounts:
    counts = {row.bucket: row.rows for row in rows}
    good = [row for row in rows if row.bucket >= 0]
    total = sum(row.rows for row in good)
    has_mean = one.is_number and total
    return ColumnCounts(
        bins=tuple(counts.get(number, 0) for number in range(len(one.edges) + 1)),
        missing=counts.get(_MISSING, 0),
        wrong_type=counts.get(_WRONG_TYPE, 0),
        out_of_range=sum(row.outside for row in good),
        mean=one.centre + one.scale * sum(row.sum for row in good) / total if has_mean else None,
    )
