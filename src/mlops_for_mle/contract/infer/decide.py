"""What each column of a source holds: its kind, its values, and what stands in the way."""

import math
import re
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from mlops_for_mle.contract import Feature, notation
from mlops_for_mle.contract.columns import is_exact, read_column, typed_marks
from mlops_for_mle.contract.model import MAX_CATEGORIES, NUMBER_TYPES, TIME_TYPES
from mlops_for_mle.contract.notation import Dates, DecimalMark, Series
from mlops_for_mle.contract.rules import MAX_TEXT_LENGTH, bounds

Kind = Literal["float", "integer", "decimal", "boolean", "text", "date", "timestamp", "other"]

# In lower case. A town may be named None, so they count only beside numbers, dates and booleans.
_MISSING_MARKS = (
    r"#?n/?a|n\.a\.|<na>|nan|nat|\(?null\)?|\\n|none|nil|-?infinity|\?|--?|\.|#(value|div/0|ref)!"
)

_COMPACT_DATE = r"[12]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"

# A column with so few different values may hold categories that look like numbers ("1", "2", "3+").
_FEW_VALUES, _ROWS_A_VALUE = 20, 5
_SHARE_OF_A_MISTAKE, _SHARE_OF_A_KIND = 0.05, 0.5

# Few rows say nothing: twenty different values are usual in twenty rows.
_MIN_ROWS = 20
_IDENTIFIER_WORDS = r"id|uuid|guid|key|no|nr|num|number|seq|index|idx|row|pk|번호|아이디|식별자"
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|(?:번호|아이디|식별자)$")
_YEARS = (1500, 2200)
_SHARE_OF_DATES = 0.9
# From 2001 to 2033.
_EPOCH_SECONDS = (10**9, 2 * 10**9)
_LISTED_CATEGORIES, _RARE_CATEGORY_ROWS = 100, 5
_SENTINELS = r"-99|-?9{3,5}|1900-01-01|1970-01-01|9999-12-31"
_MARGIN, _MARGIN_YEARS = 0.5, 10


@dataclass(frozen=True)
class Column:
    """A column of the source, under the contract's name; no contract can hold kind ``other``.

    Attributes:
        values: Read as that kind, missing where they are; categories and codes stay text.
        written: How its values are written, by the option of ingestion that says it.
        decimal: The mark before fractions that its numbers must have; empty where both could be.
        question: What only a person can decide; of numbers, where no other column tells.
        left_out: Why it is neither feature nor target, as the end of a sentence.
        keys: What the contract says of it as a feature.
    """

    name: str
    kind: Kind
    values: Series
    written: dict[str, Any] = field(default_factory=dict)
    decimal: str = ""
    question: str = ""
    left_out: str = ""
    keys: dict[str, Any] | None = None
    remark: str = ""

    @cached_property
    def present(self) -> Series:
        """The values that are not missing."""
        return self.values.dropna()

    @cached_property
    def missing_count(self) -> int:
        """In how many rows the value is missing."""
        return len(self.values) - len(self.present)

    @cached_property
    def counts(self) -> "pd.Series[int]":
        """How often each value occurs: the most frequent first."""
        return self.present.value_counts()

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers that a float64 keeps exactly, however written."""
        return self.kind in NUMBER_TYPES and bool(is_exact(self.present).all())


def infer_column(
    name: str,
    raw: Series,
    marks: Collection[str] = (),
    decimal: DecimalMark = ".",
    date_format: str | None = None,
    *,
    is_target: bool = False,
) -> Column:
    """Say what a column holds, text or typed.

    ``marks`` stand for a missing value in any column. Numbers that could be read with either mark
    before fractions are read with ``decimal``. In a target, true and false stay text.
    """
    if isinstance(raw.dtype, pd.CategoricalDtype):
        raw = raw.astype(raw.cat.categories.dtype)
    values = raw.where(notation.mask_missing(raw, marks).notna())
    match pd.api.types.infer_dtype(values, skipna=True):
        case "boolean":
            column = Column(name, "boolean", values.astype("boolean"))
        case "integer" | "floating" | "mixed-integer-float" | "decimal" as inferred:
            kind: Kind = inferred if inferred in ("integer", "decimal") else "float"
            column = Column(name, kind, read_column(values, Feature()))
            if kind != "float" and not column.is_whole:
                digits = values.astype("string")
                # Whole numbers, though no float64 keeps them.
                if digits.dropna().str.fullmatch(r"-?\d+(?:\.0*)?").all():
                    column = Column(name, "text", digits.astype(object).where(values.notna()))
        case "date" | "datetime" | "datetime64":
            times = notation.read_times(values)
            # pandas has no type for dates.
            is_date = (times.dropna() == times.dropna().dt.normalize()).all()
            column = Column(name, "date" if is_date else "timestamp", times)
        case "string" | "empty":
            column = Column(name, "text", values.astype(object).str.strip())
            column = _read_text(column, decimal, date_format, is_target)
        case _:
            problem = f"holds values such as {reprlib.repr(values.dropna().iloc[0])}"
            return Column(name, "other", values, left_out=f"{problem}, which no contract can hold")
    unread = raw[column.values.isna() & notation.mask_missing(raw).notna()].unique()
    all_marks = [mark for mark in unread if isinstance(mark, str)]
    values = column.values
    if column.kind in NUMBER_TYPES | TIME_TYPES:
        typed = typed_marks(marks, Feature(type=column.kind))
        found = typed[typed.isin(values)]
        all_marks += [mark for at, mark in enumerate(marks) if at in found.index]
        values = values.mask(values.isin(found))
    if column.kind in NUMBER_TYPES:
        # Ingestion rejects larger ones.
        values = values.where(values.abs() <= bounds(Feature())[1])
    column = replace(column, values=values, written=column.written | {"missing_marks": all_marks})
    if values.isna().all():
        return replace(column, kind="other", left_out="holds no value that a model can take")
    return column


def describe_feature(column: Column) -> Column:
    """A column with its keys in the contract and a remark; or with why it is no feature."""
    if reason := column.left_out or _reason_against(column):
        return replace(column, left_out=reason)
    keys: dict[str, Any] = {"type": column.kind}
    remarks = []
    if column.kind in NUMBER_TYPES | TIME_TYPES:
        low, high = column.present.min(), column.present.max()
        template = "{:%Y-%m-%d}" if column.kind in TIME_TYPES else "{:.15g}"
        ends = template.format(low), template.format(high)
        zone = ", in UTC" if column.kind == "timestamp" else ""
        remarks.append(f"seen {' to '.join(ends)}{zone}")
        if sentinels := [end for end in ends if re.fullmatch(_SENTINELS, end)]:
            doubtful = " or ".join(sentinels)
            remarks.append(f"does {doubtful} stand for a missing value? See --missing")
    if column.kind in NUMBER_TYPES:
        keys |= number_range(column)
        for time_unit, factor in (("seconds", 1), ("milliseconds", 1000)):
            if _EPOCH_SECONDS[0] <= low / factor and high / factor <= _EPOCH_SECONDS[1]:
                remarks.append(f"are these times, in {time_unit} since 1970?")
    elif column.kind in TIME_TYPES:
        keys["earliest"] = f"{max(1, low.year - _MARGIN_YEARS):04d}-01-01"
        keys["latest"] = f"{min(9999, high.year + _MARGIN_YEARS):04d}-12-31"
    elif column.kind == "text":
        listed = column.counts.head(_LISTED_CATEGORIES)
        keys = {"type": "category", "categories": sorted(map(str, listed.index))}
        if len(listed) < len(column.counts) or int(listed.min()) < _RARE_CATEGORY_ROWS:
            keys["unknown"] = "other"
        remarks.append(case_remark(column))
    if column.missing_count:
        policies = {"category": "separate", "boolean": "most_frequent"}
        keys["missing"] = policies.get(keys["type"], "median")
        remarks.append(f"missing in {column.missing_count:,} rows")
    return replace(column, keys=keys, remark="; ".join(filter(None, remarks)))


def case_remark(column: Column) -> str:
    """Say which texts differ only by case, blanks within, or their form in Unicode."""
    texts = pd.Series(column.counts.index.map(str), dtype="str")
    folded = texts.str.normalize("NFKC").str.casefold().str.replace(r"\s", "", regex=True)
    examples = ", ".join(map(repr, texts[folded.duplicated(keep=False)].head(4)))
    return f"{examples} may be the same: see ingestion.ignore_case" if examples else ""


def number_range(column: Column) -> dict[str, Any]:
    """A range with margins: half of what was seen on either side.

    A side where nothing is negative (or positive) stays so, and flags of 0 and 1 stay flags.
    """
    low, high = float(column.present.min()), float(column.present.max())
    if (low, high) == (0.0, 1.0) and column.is_whole:
        return {"minimum": 0, "maximum": 1}
    span = (high - low) or abs(high) or 1.0
    digits = 1 - math.floor(math.log10(span))
    lower, upper = round(low - _MARGIN * span, digits), round(high + _MARGIN * span, digits)
    lower = max(lower, 0.0) if low >= 0 else lower
    upper = min(upper, 0.0) if low < 0 and high <= 0 else upper
    if column.kind == "integer":
        return {"minimum": math.floor(lower), "maximum": math.ceil(upper)}
    return {"minimum": lower, "maximum": upper}


def _reason_against(column: Column) -> str:
    """Why a column identifies rows, or is the same in all, rather than describing them."""
    row_count, value_count = len(column.present), len(column.counts)
    if value_count == 1 and column.missing_count == 0:
        return f"has the same value in every row ({column.counts.index[0]})"
    if column.kind not in ("integer", "text") or row_count < _MIN_ROWS:
        return ""
    # The last word tells: "number of trades" is no identifier.
    last_word = "".join(_WORDS.findall(column.name)[-1:])
    is_named = re.fullmatch(_IDENTIFIER_WORDS, last_word, re.IGNORECASE) is not None
    if column.kind == "text":
        is_long = column.present.str.len().max() > MAX_TEXT_LENGTH
        is_identifier = is_long or value_count > min(row_count / 2, MAX_CATEGORIES)
        if (
            is_identifier
            and column.present.str.contains(notation.DATE_LIKE).mean() > _SHARE_OF_DATES
        ):
            example = f"such as {column.present.iloc[0]!r}"
            return f"looks like dates in a form that is not read, {example}; see --date-format"
    else:
        is_counter = column.present.max() - column.present.min() == row_count - 1
        is_year = column.present.between(*_YEARS).all()
        is_identifier = value_count == row_count and (is_named or (is_counter and not is_year))
    if is_identifier or (is_named and value_count > max(100, row_count / 50)):
        counts = f"{value_count:,} different values in {row_count:,} rows"
        return f"has {counts}, so it is an identifier or free text"
    return ""


def one_line(text: str) -> str:
    """Text without line breaks, control characters and blanks that nobody sees."""
    visible = (letter if letter.isprintable() else " " for letter in text)
    return " ".join("".join(visible).split())


def _read_text(
    text: Column, decimal: DecimalMark, date_format: str | None, is_target: bool
) -> Column:
    """Say what a column of text holds, in which at least one value is present."""
    distinct = pd.Series(text.present.unique(), dtype=object)
    is_mark = distinct.str.lower().str.fullmatch(_MISSING_MARKS)
    unmarked = distinct[~is_mark].reset_index(drop=True)
    if unmarked.empty:
        return text
    column = replace(text, values=text.values.where(text.values.isin(unmarked)))
    is_number = notation.looks_like_number(unmarked)
    if not is_target and unmarked.str.lower().isin(("true", "false")).all():
        flags = read_column(column.values, Feature(type="boolean"))
        column = replace(column, kind="boolean", values=flags)
    elif date_format is None and is_number.all():
        column = _numbers(column, unmarked, decimal)
    else:
        readings = notation.date_readings(unmarked, date_format)
        is_date = pd.DataFrame(readings, unmarked.index).notna().any(axis="columns")
        if is_date.all():
            column = _dates(column, unmarked, readings)
        else:
            column = _mixture(column, {"numbers": unmarked[is_number], "dates": unmarked[is_date]})
    return text if column.kind == "text" else column


def _numbers(text: Column, distinct: Series, decimal: DecimalMark) -> Column:
    """Text that looks like numbers: numbers of one format, codes as 007, or dates as 20240131."""
    days = notation.read_times(distinct.where(distinct.str.fullmatch(_COMPACT_DATE)))
    if days.notna().all():
        return replace(text, kind="date", values=notation.read_times(text.values))
    formats = notation.number_formats(distinct, decimal)
    if not formats:
        problem = f"writes numbers in more than one way, such as {_examples(text.present)}"
        remedy = "write all of them alike, with the same unit or none"
        return replace(text, kind="other", left_out=f"{problem}: {remedy}")
    chosen, numbers = next(iter(formats.items()))
    has_mark = distinct.str.contains(chosen.decimal, regex=False)
    is_whole = ~has_mark & ~distinct.str.contains(r"\d[eE][-+]?\d")
    is_padded = distinct.str.fullmatch(r"\d+").all() and distinct.str.match(r"0\d").any()
    if is_padded or not is_exact(numbers[is_whole]).all():
        return text
    question = ""
    if len(formats) > 1 and chosen.thousands:
        options = {".": "--decimal point", ",": "--decimal comma"}
        by_option = {options[form.decimal]: values for form, values in formats.items()}
        question = _question(text, "numbers that could be others", distinct, by_option, "{:.15g}")
    return replace(
        text,
        kind="integer" if is_whole.all() else "float",
        values=chosen.read(text.values),
        written={"number_formats": chosen.model_dump(exclude_defaults=True)},
        decimal=chosen.decimal if len(formats) == 1 and has_mark.any() else "",
        question=question,
    )


def _dates(text: Column, distinct: Series, readings: Dates) -> Column:
    formats = notation.date_formats(readings)
    if not formats:
        problem = f"has dates in more than one format, such as {_examples(text.present)}"
        return replace(text, kind="other", left_out=f"{problem}: write all of them as YYYY-MM-DD")
    if len(formats) > 1:
        ambiguity = "dates in which day and month could be taken for one another"
        options = {f"--date-format '{text.name}={code}'": times for code, times in formats.items()}
        question = _question(text, ambiguity, distinct, options, "{:%Y-%m-%d}")
        return replace(text, kind="other", question=question)
    (code,) = formats
    kind: Kind = "timestamp" if distinct.str.contains(":", regex=False).any() else "date"
    times = notation.read_times(text.values, code)
    return replace(text, kind=kind, values=times, written={"date_formats": code})


def _question(
    text: Column, ambiguity: str, distinct: Series, by_option: Mapping[str, Any], template: str
) -> str:
    """Ask which reading of a value is meant, naming for each the option that chooses it."""
    rows = zip(distinct, *by_option.values(), strict=True)
    value, *readings = next(row for row in rows if row[1] != row[2])
    pairs = zip(readings, by_option, strict=True)
    alternatives = sorted(f"{template.format(reading)} ({option})" for reading, option in pairs)
    return f"Column {text.name!r} has {ambiguity}: {value!r} is {' or '.join(alternatives)}."


def _mixture(text: Column, kinds: Mapping[str, Series]) -> Column:
    """Text that is partly numbers or dates: categories, or one of these with mistakes."""
    present, distinct_count = text.present, text.present.nunique()
    is_few = distinct_count <= _FEW_VALUES and distinct_count * _ROWS_A_VALUE <= len(present)
    for kind, fitting in kinds.items():
        rest = present[~present.isin(fitting)]
        share = len(rest) / len(present)
        if share <= 1 - _SHARE_OF_A_KIND and not (is_few and share >= _SHARE_OF_A_MISTAKE):
            reason = (
                f"mixes {len(present) - len(rest)} {kind} with {len(rest)} other value(s) such "
                f"as {_examples(rest)}: correct them, or name those that stand for a missing value "
                "by --missing"
            )
            return replace(text, kind="other", left_out=reason)
    return text


def _examples(values: Series) -> str:
    """Up to three values, each with its row, counted as ingestion counts them."""
    first = values.drop_duplicates().head(3).items()
    return ", ".join(f"{reprlib.repr(value)} (row {int(str(row)) + 1})" for row, value in first)
