"""CSV as people write it: guesses how a file is written, and splits it into rows."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

from pydantic import Field

from mlops_for_mle.contract import Configuration

# Of several that fit, the first is taken.
SEPARATORS = {"tab": "\t", "semicolon": ";", "pipe": "|", "comma": ",", "space": " "}

_SAMPLE = 1_000
UNREADABLE = re.compile("[\x00\udc80-\udcff]")
_NUMBER = re.compile(r"\s*[-+]?\d*[.,]?\d+\s*")
# What a file holds that quotes in this way.
_QUOTES = {"doubled": "", "escaped": '\\"', "single": "'", "none": '"'}
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
}
_TOTAL = re.compile(r"\W*((grand |sub)?totals?|sum|summe|합계|총계|소계)\W*", re.IGNORECASE)


class CsvForm(Configuration):
    """How a CSV file is written; ``conf/base/globals.yml`` says what each choice means."""

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


class Record(NamedTuple):
    """The lines from ``start`` to before ``end``: their fields, or why they are no row."""

    start: int
    end: int
    fields: list[str]
    problem: str


class Unread(NamedTuple):
    """A row that cannot be read: why, with its line in the file, and its text."""

    reason: str
    text: str


def encoding_of(content: bytes, default: str = "utf-8") -> str:
    """The encoding that a byte order mark names, else the default."""
    return next((name for bom, name in _BOMS.items() if content.startswith(bom)), default)


def read_records(lines: list[str], form: CsvForm, width: int | None = None) -> Iterator[Record]:
    """The header and the rows; with a ``width``, any other number of fields is a problem.

    A quote that is never closed, or only in a later row, costs its own line and no other.
    """
    separator, end = re.escape(SEPARATORS[form.separator]), form.skip_lines
    while end < len(lines):
        start, end = end, end + 1
        if lines[start].startswith(form.comments):
            continue
        reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), **form.dialect)
        try:
            fields = next(reader)
        except csv.Error as error:
            # Python's reader skips blanks before a quote, but refuses those behind it.
            last = start + reader.line_num - 1
            mended = re.sub(rf'(["\'])[ \t]+(?=[{separator}\r\n]|$)', r"\1", lines[last])
            if mended == lines[last]:
                yield Record(start, end, [], str(error))
            else:
                lines[last], end = mended, start
            continue
        end, problem = start + reader.line_num, ""
        fields = fields if any(fields[width:]) else fields[:width]
        if not any(map(str.strip, fields)):
            continue
        if width and len(fields) != width:
            problem = f"has {len(fields)} field(s), expected {width}"
            quote = form.dialect["quotechar"]
            inner = (line for line in lines[start + 1 : end] if quote not in line)
            if any(len(row) == width for row in csv.reader(inner, **form.dialect)):
                problem, end = "has a quote that is not closed", start + 1
        if unreadable := UNREADABLE.search("".join(lines[start:end])):
            is_nul = unreadable[0] == "\x00"
            problem = "holds NUL bytes" if is_nul else f"is not in csv_encoding {form.encoding}"
        yield Record(start, end, fields, problem)


def usual_width(records: Sequence[Record]) -> int:
    """The number of fields that most records have; the larger one of two as frequent."""
    widths = Counter(len(record.fields) for record in records if not record.problem)
    return max(widths, key=lambda width: (widths[width], width), default=0)


def guess_csv_form(content: bytes, encoding: str | None = None, header: bool = True) -> CsvForm:
    """Tell how a CSV file is written by its bytes; UTF-8 where its encoding cannot be told."""
    plain = CsvForm(encoding=encoding or _guess_encoding(content), header=header)
    text = content.decode(encoding_of(content, plain.encoding), "surrogateescape")
    lines = io.StringIO(text, newline="").readlines()
    # How a file is written shows in its beginning, but for its quotes.
    sample = [*lines[:_SAMPLE], *[line for line in lines[_SAMPLE:] if '\\"' in line][:_SAMPLE]]
    best, best_fit = plain, 0
    for separator, (quotes, quote_mark) in product(SEPARATORS, _QUOTES.items()):
        form = plain.model_copy(update={"separator": separator, "quotes": quotes})
        fit = _fit([*sample], form) if quote_mark in text else 0
        if fit > best_fit:
            best, best_fit = form, fit
    return best.model_copy(update=_surroundings(lines, best))


def _fit(lines: list[str], form: CsvForm) -> int:
    """How many lines are rows of the usual width in which no mark of quoting is left."""
    records = [record for record in read_records(lines, form) if not record.problem]
    width = usual_width(records)
    if width < 2:
        return 0
    rows = [row for row in records if len(row.fields) >= width and not any(row.fields[width:])]
    return sum(row.end - row.start for row in rows if not any(map(_keeps_quotes, row.fields)))


def _keeps_quotes(field: str) -> bool:
    if field[:1] in ('"', "'"):
        return (len(field) > 1 and field[0] == field[-1]) or field.count(field[0]) % 2 == 1
    return '\\"' in field


def _surroundings(lines: list[str], form: CsvForm) -> dict[str, Any]:
    """How many lines stand before the header, and what lines begin with that are no rows."""
    records, separator = list(read_records(lines[:_SAMPLE], form)), SEPARATORS[form.separator]
    width = usual_width(records)
    # The header may lack a separator with which all rows end.
    rows = [row.fields for row in records if len(row.fields) == width and not row.problem]
    min_width = width if any(row[-1].strip() for row in rows) else width - 1
    # The header is the first such record of which more than half of the fields have a name.
    wide = [number for number, record in enumerate(records) if len(record.fields) >= min_width]
    named = (number for number in wide if 2 * sum(map(bool, records[number].fields)) > min_width)
    header = next(named, 0)
    # A file of R has no name above the names of rows.
    is_short = header == 1 and len(records[0].fields) == min_width - 1
    if is_short and any(map(_NUMBER.fullmatch, records[1].fields)):
        header = 0
    skipped = records[header].start if records else 0
    data_lines = [line for line in lines[skipped + 1 :] if line.strip()]
    comments = []
    for sign in ("#", "%", "//"):
        widths = [line.count(separator) + 1 for line in data_lines if line.startswith(sign)]
        if widths and max(widths) < min_width:
            comments.append(sign)
    label = data_lines[-1].partition(separator)[0] if data_lines else ""
    if _TOTAL.fullmatch(label) and sum(line.startswith(label) for line in data_lines) == 1:
        comments.append(label.strip())
    return {"skip_lines": skipped, "comments": tuple(comments)}


def _guess_encoding(content: bytes) -> str:
    text = content.decode(encoding_of(content), "surrogateescape")
    lines = [line for line in text.split("\n") if not line.isascii()]
    not_utf8 = [line for line in lines if UNREADABLE.search(line)]
    if 2 * len(not_utf8) <= len(lines):
        return "utf-8"
    foreign = "\n".join(not_utf8).encode("utf-8", "surrogateescape")
    decoded = foreign.decode("cp949", "surrogateescape")
    letters = [letter for letter in decoded if not letter.isascii()]
    if sum("가" <= letter <= "힣" for letter in letters) > len(letters) / 2:
        return "cp949"
    # In languages of Western Europe letters that are not ASCII hardly ever follow one another.
    return "utf-8" if re.search(rb"[\x80-\xff]{3}", foreign) else "cp1252"
