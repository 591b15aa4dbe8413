"""CSV as people have it: how a file is written, its rows as text, and the lines that are no rows.

PyArrow reads a file in which nothing is wrong. It does not say which line is, so any other file is
read record by record with Python's own reader, which takes about twice as long as pandas.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from mlops_for_mle.contract import Configuration
from mlops_for_mle.contract.model import normalised

# The first of several that fit.
SEPARATORS = {"tab": "\t", "semicolon": ";", "pipe": "|", "comma": ",", "space": " "}

_KOREAN = "cp949"
_FIRST_LINES = 100
# How a file is written shows in its beginning, but for its quotes.
_SAMPLE_LINES, _LONG_SAMPLE_LINES = 1_000, 20_000
_UNREADABLE = re.compile("[\x00\udc80-\udcff]")
_COMMENTS = ("#", "%", "//")
_TOTAL = re.compile(r"\W*((grand |sub)?totals?|sum|summe|합계|총계|소계)\W*", re.IGNORECASE)


class CsvForm(Configuration):
    r"""How a CSV file is written.

    Attributes:
        encoding: A name that Python knows, such as ``cp949``; a mark of UTF-8 or UTF-16 at the
            start of a file counts more.
        separator: Between fields; a ``space`` is any number of blanks.
        header: Whether the first line names the columns; else they are called c0, c1, ….
        quotes: How text with separators is set off: within ``"…"`` a quote is ``doubled``, or it is
            ``escaped`` as ``\"``; ``single`` is ``'…'``; with ``none`` a quote is like any letter.
        skip_lines: How many lines stand before the header, or else before the first row.
        comments: What a line begins with that is no row.
    """

    encoding: str = "utf-8"
    separator: Literal["comma", "semicolon", "tab", "pipe", "space"] = "comma"
    header: bool = True
    quotes: Literal["doubled", "escaped", "single", "none"] = "doubled"
    skip_lines: int = Field(default=0, ge=0)
    comments: tuple[str, ...] = ()

    @property
    def dialect(self) -> dict[str, Any]:
        """The same for Python's reader."""
        return {
            "delimiter": SEPARATORS[self.separator],
            "skipinitialspace": True,
            "strict": True,
            "quotechar": "'" if self.quotes == "single" else '"',
            "quoting": csv.QUOTE_NONE if self.quotes == "none" else csv.QUOTE_MINIMAL,
            "escapechar": "\\" if self.quotes == "escaped" else None,
        }


class Unread(NamedTuple):
    """A row that cannot be read: why, with its line in the file, and its text."""

    reason: str
    text: str


class _Record(NamedTuple):
    """What stands in some lines: fields, or what keeps them from being a row."""

    start: int
    end: int
    fields: list[str]
    problem: str


def read_csv(content: bytes, form: CsvForm) -> pd.DataFrame:
    """Read the bytes of a CSV file.

    Returns:
        Every column as text, without blanks around names and values and without blank rows. Empty
        fields beyond the header are dropped; a name that is blank becomes c0, c1, … by its place,
        and those that stand there twice are numbered. ``attrs["unread"]`` has an ``Unread`` for
        the number of each row that cannot be read; row 1 has index 0 whether it can or not.

    Raises:
        ValueError: It is no CSV file of this form; says what it looks like.
    """
    if content.startswith(b"PK\x03\x04"):
        raise ValueError("is an Excel workbook or another ZIP archive: save the sheet as CSV")
    text = _decoded(content, form.encoding)
    lines = list(islice(io.StringIO(text, newline=""), form.skip_lines + _FIRST_LINES))
    first = list(_records(lines, form))
    if not first:
        raise ValueError("no lines to read")
    usual = _usual_width(first[form.header :] or first)
    names = first[0].fields if form.header else [""] * usual
    if form.header and first[0].problem:
        raise ValueError(f"line {first[0].start + 1}: {first[0].problem}{_remedy(content)}")
    while len(names) > usual and not names[-1].strip():
        names.pop()
    unread: dict[int, Unread] = {}
    skipped = sum(map(len, lines[: form.skip_lines]))
    fields = _read_plainly(text[skipped:], form, len(names))
    if fields is None:
        fields, unread = _read_carefully(_lines(text), form, len(names))
    rows: pd.DataFrame = fields.apply(lambda column: column.str.strip())
    rows = rows[(rows != "").any(axis="columns")].iloc[int(form.header) :]
    if rows.empty and unread:
        raise ValueError(
            f"no row can be read, {next(iter(unread.values())).reason}{_remedy(content)}"
        )
    numbers = np.setdiff1d(np.arange(1, len(rows) + len(unread) + 1), list(unread))
    rows = rows.set_axis(_distinct(names), axis="columns").set_axis(numbers - 1)
    rows.attrs["unread"] = unread
    return rows


def _decoded(content: bytes, encoding: str) -> str:
    """The text, in which bytes that are none stand as lone surrogates."""
    if content.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return content.decode(encoding, "surrogateescape")


def _lines(text: str) -> list[str]:
    """The lines with their ends, whichever these are."""
    return io.StringIO(text, newline="").readlines()


def _remedy(content: bytes) -> str:
    if b"\x00" in content:
        return ", so it is no text, or else csv_encoding: utf-16-le"
    if content.isascii():
        return ""
    western = "cp1252, of Windows in Western Europe"
    other = f"{_KOREAN}, of Korean Windows" if _is_korean(content) else western
    return f": set csv_encoding, such as {other}"


def _read_plainly(text: str, form: CsvForm, width: int) -> pd.DataFrame | None:
    """The fields of a file in which nothing is wrong, with its header; None of any other."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    mark = SEPARATORS[form.separator]
    is_plain = form.quotes == "doubled" and form.separator != "space" and not form.comments
    if not is_plain or _UNREADABLE.search(text) or _has_odd_quotes(text, mark):
        return None
    names = [str(place) for place in range(width)]
    types = dict.fromkeys(names, pa.large_string())
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(text.encode()),
            arrow_csv.ReadOptions(column_names=names, block_size=4 * len(text) + 1),
            arrow_csv.ParseOptions(delimiter=mark, newlines_in_values=True),
            arrow_csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, OverflowError):
        return None
    rows: pd.DataFrame = table.to_pandas()
    return rows


def _has_odd_quotes(text: str, mark: str) -> bool:
    """Whether a quote neither begins nor ends a field, or blanks stand before one that does."""
    quotes, ends = text.count('"'), f"{mark}\r\n"
    if quotes == 0 or quotes % 2:
        return quotes > 0
    bounds = sum(text.count(f'{one}"') + text.count(f'"{one}') for one in ends)
    bounds += text.startswith('"') + text.endswith('"')
    if quotes == bounds and f'{mark}"{mark}' not in text:
        return False
    ends = re.escape(ends)
    odd = rf'(?<=[^{ends}"])"(?=[^{ends}"])|(?:^|[{ends}])[ \t]+"'
    return re.search(odd, text) is not None


def _read_carefully(
    lines: list[str], form: CsvForm, width: int
) -> tuple[pd.DataFrame, dict[int, Unread]]:
    """The fields of the rows that can be read, with the header; the others by their number."""
    fields, unread = [], {}
    for number, record in zip(count(1 - form.header), _records(lines, form, width)):
        if record.problem:
            text = "".join(lines[record.start : record.end]).rstrip("\r\n")
            shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            unread[number] = Unread(f"line {record.start + 1}: {record.problem}", shown)
        else:
            fields.append(record.fields[:width])
    columns = zip(*fields, strict=True) if fields else [()] * width
    read = {place: pd.array(one, "str") for place, one in enumerate(columns)}
    return pd.DataFrame(read), unread


def _records(lines: list[str], form: CsvForm, width: int | None = None) -> Iterator[_Record]:
    """The header and the rows, of so many fields where that is said.

    A quote that is never closed, or only in a later row, costs its own line and no other.
    """
    # Python's reader takes blanks behind a quote for an error, those before it for nothing.
    blanks = re.compile(rf'(["\'])[ \t]+(?=[{re.escape(SEPARATORS[form.separator])}\r\n]|$)')
    start, reader = form.skip_lines, None
    while start < len(lines):
        if reader is None:
            rest = map(lines.__getitem__, range(start, len(lines)))
            base, reader = start, csv.reader(rest, **form.dialect)
        fields, problem = [], ""
        try:
            fields = next(reader)
        except csv.Error as error:
            problem = str(error)
        end = base + reader.line_num
        if lines[start].startswith(form.comments):
            reader = reader if end == start + 1 else None
            start += 1
            continue
        mended = blanks.sub(r"\1", lines[end - 1]) if problem else lines[end - 1]
        if mended != lines[end - 1]:
            lines[end - 1], reader = mended, None
            continue
        if not problem and not any(map(str.strip, fields)):
            start = end
            continue
        if problem or (width and _has_swallowed(lines[start:end], fields, form, width)):
            problem, end, reader = problem or "has a quote that is not closed", start + 1, None
        yield _Record(
            start, end, fields, problem or _problem(lines[start:end], fields, form, width)
        )
        start = end


def _has_swallowed(lines: list[str], fields: list[str], form: CsvForm, width: int) -> bool:
    """Whether a record of the wrong width holds lines that are rows themselves."""
    if len(lines) == 1 or len(fields) == width:
        return False
    plain = (one for one in lines[1:] if form.dialect["quotechar"] not in one)
    return any(_width(one, form) == width for one in plain)


def _problem(lines: list[str], fields: list[str], form: CsvForm, width: int | None) -> str:
    """What keeps a record from being a row; empty fields beyond the width do not."""
    found = _UNREADABLE.search("".join(lines))
    if found:
        return "holds NUL bytes" if found[0] == "\x00" else f"is not written in {form.encoding}"
    if width is None or len(fields) == width or (len(fields) > width and not any(fields[width:])):
        return ""
    return f"has {len(fields)} field(s), expected {width}"


def _width(line: str, form: CsvForm) -> int:
    """How many fields a line has by itself; none where it cannot be read."""
    try:
        return len(next(csv.reader([line], **form.dialect), []))
    except csv.Error:
        return 0


def _usual_width(records: Sequence[_Record]) -> int:
    widths = Counter(len(one.fields) for one in records if not one.problem)
    return max(widths, key=lambda width: (widths[width], width), default=0)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns, each once."""
    known = [normalised(name.strip()) or f"c{place}" for place, name in enumerate(names)]
    found: list[str] = []
    for name in known:
        numbered = (f"{name}_{number}" for number in count(1))
        taken = {*found, *known}
        found.append(
            name if known.count(name) == 1 else next(n for n in numbered if n not in taken)
        )
    return found


def guess_csv_form(content: bytes, encoding: str | None = None, header: bool = True) -> CsvForm:
    """Tell how a CSV file is written by its bytes; UTF-8 where its encoding cannot be told."""
    encoding = encoding or _guess_encoding(content)
    whole = _decoded(content, encoding)
    lines = _lines(whole)
    marks = {"doubled": "", "escaped": '\\"', "single": "'", "none": '"'}
    quotes = [way for way, mark in marks.items() if mark in whole]
    plain = CsvForm(encoding=encoding, header=header)
    ways = [
        plain.model_copy(update={"separator": separator, "quotes": way})
        for separator in SEPARATORS
        for way in quotes
    ]
    best = max(ways, key=lambda way: _fit(lines[:_SAMPLE_LINES], way))
    alike = [one for one in ways if one.separator == best.separator]
    best = max(alike, key=lambda way: _fit(lines[:_LONG_SAMPLE_LINES], way))
    form = best if _fit(lines[:_SAMPLE_LINES], best) else plain
    return form.model_copy(update=_surroundings(lines, form))


def _fit(lines: list[str], form: CsvForm) -> int:
    """How many lines are rows of the usual width in which no mark of quoting is left."""
    width = _usual_width(list(_records([*lines], form)))
    records = _records([*lines], form, width)
    return (width > 1) * sum(
        one.end - one.start
        for one in records
        if not one.problem and len(one.fields) == width and not any(map(_keeps_quotes, one.fields))
    )


def _keeps_quotes(field: str) -> bool:
    if field[:1] in ('"', "'"):
        return (len(field) > 1 and field[0] == field[-1]) or field.count(field[0]) % 2 == 1
    return '\\"' in field


def _surroundings(lines: list[str], form: CsvForm) -> dict[str, Any]:
    """The lines before the header, and what lines begin with that are no rows."""
    records = list(_records([*lines[:_SAMPLE_LINES]], form))
    width = _usual_width(records)
    rows = [one for one in records if len(one.fields) == width and not one.problem]
    # The header may lack a separator with which all rows end.
    least = width - all(not one.fields[-1].strip() for one in rows)
    full = (
        place
        for place, one in enumerate(records)
        if len(one.fields) >= least and sum(map(bool, one.fields)) > least / 2
    )
    first = next(full, 0)
    if first == 1 and len(records[0].fields) == least - 1 and _holds_numbers(records[1]):
        first = 0
    skipped = records[first].start if first < len(records) else 0
    after = lines[skipped + 1 :]
    comments = []
    for mark in _COMMENTS:
        marked = [one for one in after if one.startswith(mark)]
        if marked and all(_width(one, form) < least for one in marked):
            comments.append(mark)
    last = next((one for one in reversed(after) if one.strip()), "").partition(
        SEPARATORS[form.separator]
    )[0]
    if _TOTAL.fullmatch(last.strip()) and sum(one.startswith(last) for one in after) == 1:
        comments.append(last.strip())
    return {"skip_lines": skipped, "comments": tuple(comments)}


def _holds_numbers(record: _Record) -> bool:
    return any(re.fullmatch(r"\s*[-+]?\d*[.,]?\d+\s*", field) for field in record.fields)


def _guess_encoding(content: bytes) -> str:
    even, odd = content[:_SAMPLE_LINES:2].count(0), content[1:_SAMPLE_LINES:2].count(0)
    if max(even, odd) > min(len(content), _SAMPLE_LINES) / 4:
        return "utf-16-le" if odd > even else "utf-16-be"
    marked = [line for line in content.split(b"\n") if not line.isascii()]
    others = [line for line in marked if not _is_utf8(line)]
    if 2 * len(others) <= len(marked):
        return "utf-8"
    foreign = b"\n".join(others)
    if _is_korean(foreign):
        return _KOREAN
    # In languages of Western Europe letters that are not ASCII hardly ever follow one another.
    return "utf-8" if re.search(rb"[\x80-\xff]{3}", foreign) else "cp1252"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_korean(content: bytes) -> bool:
    """Whether bytes that are no UTF-8 are mostly Hangul in CP949, which others hardly are."""
    text = content.decode(_KOREAN, "surrogateescape")
    foreign = [one for one in text if not one.isascii()]
    return not _is_utf8(content) and sum("가" <= one <= "힣" for one in foreign) > len(foreign) / 2
