"""A window of predictions, counted by Postgres: nothing but counts and sums leaves it.

So memory does not depend on the window. Names of features and categories are data here, and always
bound parameters. The API logs only what fits the contract; anything else would count as missing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mlops_for_mle.pipelines.monitoring.options import SegmentOptions
from mlops_for_mle.pipelines.monitoring.reference import BinnedColumn, Reference

# Takes parameters and statements; gives the rows of each statement, which all see the same moment.
RunQuery = Callable[..., list[Sequence[Any]]]


@dataclass(frozen=True)
class LabelledCount:
    """Labelled predictions with the same predicted and actual class, -1 is any other.

    Of a regression, all of them, with the sums of powers of their errors.
    """

    predicted: int
    actual: int
    count: int
    square: float = 0.0
    fourth: float = 0.0


@dataclass(frozen=True)
class Window:
    """A window of the deployed release's predictions, or a segment of it, and its labelled ones.

    ``ahead`` counts the predictions that are dated in the future, which no window holds.
    ``expected`` is the share of right ones, or the mean squared error, by ``Expectation``.
    """

    columns: dict[str, BinnedColumn]
    row_count: int = 0
    window_from: datetime | None = None
    window_to: datetime | None = None
    expected: float | None = None
    rated: tuple[LabelledCount, ...] = ()
    labelled_from: datetime | None = None
    labelled_to: datetime | None = None
    ahead: int = 0

    @property
    def labelled_count(self) -> int:
        """How many labelled predictions were looked at."""
        return sum(group.count for group in self.rated)


# The calendar dates and times of ISO 8601 that the API takes; without an offset they are UTC.
_HOUR, _MINUTE = "([01][0-9]|2[0-3])", "([0-5][0-9])"
_ISO = (
    "^(?!0000)([0-9]{4})-?(0[1-9]|1[0-2])-?([0-3][0-9])"
    f"(?:.{_HOUR}(?::?{_MINUTE}(?::?([0-5][0-9](?:[.,][0-9]+)?))?)?"
    f"(?:Z|([+-](?:[01][0-9]|2[0-3]))(?::?{_MINUTE})?)?)?$"
)

_RELEASE = "predictions.contract = :contract AND predictions.release = :release"
_SPAN = f"{_RELEASE} AND predictions.created_at <= :until"
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
SELECT {{segment}} AS segment, count(*) AS row_count, min(created_at) AS window_from,
       max(created_at) AS window_to, avg({{expected}}) AS expected
FROM predictions WHERE {_WINDOW} GROUP BY 1
"""
# One scan for all columns. A function in FROM is called once a row, so that each value is read
# once; so would a subquery that is not repeated, but Postgres would not work in parallel then.
_COLUMNS = f"""
SELECT {{segment}} AS segment, position,
       width_bucket(number, edges) AS bucket, count(*) AS rows
FROM predictions
CROSS JOIN LATERAL unnest(ARRAY[{{values}}]) WITH ORDINALITY AS value(number, position)
JOIN jsonb_to_recordset(CAST(:columns AS jsonb))
    AS described(position bigint, edges float8[]) USING (position)
WHERE {_WINDOW} GROUP BY 1, 2, 3
"""
_RATED = f"""
SELECT segment, min(answered_at) AS labelled_from, max(answered_at) AS labelled_to,
       predicted, actual, count(*), sum(error ^ 2), sum(error ^ 4)
FROM (
    SELECT {{segment}} AS segment, predictions.created_at AS answered_at, {{rated}}
    FROM predictions JOIN feedback USING (prediction_id)
    WHERE feedback.superseded_at IS NULL AND {_SPAN} {_NEWEST} LIMIT :rows
) AS labelled
GROUP BY segment, predicted, actual
"""
_COUNTS = (_OVERVIEW, _COLUMNS, _RATED)
_CLASSES = """
coalesce(array_position(CAST(:codes AS float8[]), prediction), 0) - 1 AS predicted,
coalesce(array_position(CAST(:codes AS float8[]), {target}), 0) - 1 AS actual,
CAST(0 AS float8) AS error
"""
# A label was given under the contract that was served then, whose text classes may have stood in
# another order or had other names.
_POSITION_OF_LABEL = "coalesce(array_position(CAST(:names AS text[]), feedback.label) - 1, target)"
# Bounded, since Postgres refuses powers that are beyond a double's range, at its lower end too.
_ERROR = """
-1 AS predicted, -1 AS actual, CASE WHEN abs(prediction - target) > 1e-70
THEN least(abs(prediction - target), 1e70) ELSE 0 END AS error
"""
_EXPECTED_CORRECT = """
probabilities[array_position(CAST(:codes AS float8[]), prediction)] + CAST(:surplus AS float8)
"""
_EXPECTED_ERROR = """
(CAST(:errors AS float8[]))[width_bucket(prediction, CAST(:edges AS float8[])) + 1]
"""


def count_window(reference: Reference, prediction_log: RunQuery) -> dict[str, Window]:
    """Count the newest predictions of the deployed release into the bins of the reference."""
    options, columns = reference.options.window, reference.columns
    target, expectation = reference.contract.target, reference.expectation
    parameters: dict[str, Any] = {
        "contract": reference.contract.name,
        "release": reference.manifest.release,
        "first_at": "-infinity",
        "first_id": "",
        "codes": [float(code) for code in target.class_codes],
        "names": [*target.labels.values()],
        "edges": [*columns[reference.prediction_column].edges],
        "errors": [*expectation.errors],
        "surplus": expectation.surplus,
        "iso": _ISO,
    }
    expressions, described = {}, []
    for position, (name, column) in enumerate(columns.items(), start=1):
        parameters |= {f"name{position}": name, f"categories{position}": [*column.categories]}
        expressions[name] = _value_sql(column, position)
        described.append({"position": position, "edges": column.edges})
    parameters["columns"] = json.dumps(described)
    [[(now, ahead)]] = prediction_log(parameters, _NOW)
    until = min(options.until or now, now)
    parameters |= {"until": until, "rows": options.rows, "skipped": options.rows - 1}
    rated = _ERROR
    if target.classes:
        rated = _CLASSES.format(target=_POSITION_OF_LABEL if target.feature.is_text else "target")
    [first_rows] = prediction_log(parameters, _BEGIN)
    for first in first_rows:
        parameters |= {"first_at": first.created_at, "first_id": first.prediction_id}
    windows = {}
    for option, names in ((None, {0: ""}), *reference.segments):
        clauses = {
            "segment": _segment_sql(option, expressions),
            "expected": _EXPECTED_CORRECT if target.classes else _EXPECTED_ERROR,
            "values": ", ".join(expressions.values()),
            "rated": rated,
        }
        results = prediction_log(parameters, *(counts.format(**clauses) for counts in _COUNTS))
        for key, name in names.items():
            found = ([row for row in rows if row.segment == key] for rows in results)
            windows[name] = _window(columns, *found)
    whole = windows[""]
    # Without predictions, it ends where they were looked for, or it would count as the newest.
    return windows | {"": replace(whole, ahead=ahead, window_to=whole.window_to or until)}


def _window(
    columns: Mapping[str, BinnedColumn], overview: list[Any], buckets: list[Any], rated: list[Any]
) -> Window:
    # There is no row where there is no prediction.
    count, begin, end, expected = overview[0][1:] if overview else (0, None, None, None)
    counted = {}
    for position, (name, column) in enumerate(columns.items(), start=1):
        counts = {row.bucket: row.rows for row in buckets if row.position == position}
        in_bins = tuple(counts.get(number, 0) for number in range(len(column.edges) + 1))
        counted[name] = replace(column, counts=in_bins, missing=counts.get(None, 0))
    return Window(
        columns=counted,
        row_count=count,
        window_from=begin,
        window_to=end,
        expected=expected,
        rated=tuple(LabelledCount(*row[3:]) for row in rated),
        labelled_from=min((row.labelled_from for row in rated), default=None),
        labelled_to=max((row.labelled_to for row in rated), default=None),
    )


def _segment_sql(option: SegmentOptions | None, expressions: Mapping[str, str]) -> str:
    """SQL of the number of a row's segment, as in ``Reference.segments``; 0 without segments."""
    if option is None:
        return "0"
    number = expressions[option.feature]
    if option.by is not None:
        part = "isodow" if option.by == "weekday" else option.by
        number = f"extract({part} FROM to_timestamp({number}) AT TIME ZONE 'UTC')"
    return f"CAST({number} AS float8)"


def _value_sql(column: BinnedColumn, position: int) -> str:
    """SQL that reads a value as a number; null where there is none of this kind."""
    if column.kind == "class":
        return "coalesce(array_position(CAST(:codes AS float8[]), prediction), 0)"
    if column.kind == "answer":
        return "prediction"
    value = f"(features -> CAST(:name{position} AS text))"
    number, text = f"CAST({value} AS numeric)", f"({value} #>> CAST(ARRAY[] AS text[]))"
    json_type = f"jsonb_typeof({value})"
    if column.kind == "time":
        cases = f"WHEN 'string' THEN {_seconds_sql(text)}"
    elif column.kind == "category":
        # 3 and 3.0 are one category.
        shortest = f"CAST(trim_scale({number}) AS text)"
        category = f"CASE {json_type} WHEN 'number' THEN {shortest} ELSE {text} END"
        index = f"coalesce(array_position(CAST(:categories{position} AS text[]), {category}), 0)"
        cases = f"WHEN 'string' THEN {index} WHEN 'number' THEN {index} WHEN 'boolean' THEN {index}"
    else:
        # Postgres takes for no float8 what is as small as 1e-400, or as large as 1e400.
        ends = "CAST('{-1e308, -1e-300, 1e-300, 1e308}' AS numeric[])"
        read = f"CAST({value} AS float8)"
        fits = f"CASE width_bucket({number}, {ends}) WHEN 3 THEN {read} WHEN 1 THEN {read} "
        fits += "WHEN 2 THEN 0 END"
        cases = f"WHEN 'number' THEN {fits}"
    return f"CASE {json_type} {cases} END"


def _seconds_sql(text: str) -> str:
    """SQL that reads a date or time as seconds since 1970, UTC.

    Postgres' own conversion does not know all of these forms, and takes the session's zone where
    none is given.
    """
    year, month, day = (f"CAST(part[{number}] AS int)" for number in (1, 2, 3))
    hour, minute = (f"coalesce(CAST(part[{number}] AS int), 0)" for number in (4, 5))
    second = "coalesce(CAST(replace(part[6], ',', '.') AS float8), 0)"
    month_begin = f"make_timestamp({year}, {month}, 1, {hour}, {minute}, {second})"
    offset = "coalesce(CAST(part[7] || ':' || coalesce(part[8], '00') AS interval), '0')"
    seconds = f"extract(epoch FROM {month_begin} - {offset}) + ({day} - 1) * 86400"
    return f"(SELECT {seconds} FROM regexp_match({text}, :iso) AS matched(part))"
