"""CSV as people have it: how a file is written, what is a row of it, and what its bytes tell."""

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

# The first of several that fit.
SEPARATORS = {"tab": "\t", "semicolon": ";", "pipe": "|", "comma": ",", "space": " "}

_SAMPLE = 1_000
UNREADABLE = re.compile("[\x00\udc80-\udcff]")
_NUMBER = re.compile(r"\s*[-+]?\d*[.,]?\d+\s*")
# What stands in a file that is written so.
_QUOTES = {"doubled": "", "escaped": '\\"', "single": "'", "none": '"'}
_MARKS = {
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
    """What begins in one line and ends before another: fields, or why they are no row."""

    start: int
    end: int
    fields: list[str]
    problem: str


class Unread(NamedTuple):
    """A row that cannot be read: why, with its line in the file, and its text."""

    reason: str
    text: str


def encoding_of(content: bytes, said: str = "utf-8") -> str:
    """The encoding that a mark at the start names, else the one that is said."""
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), said)


def read_records(lines: list[str], form: CsvForm, width: int | None = None) -> Iterator[Record]:
    """The header and the rows, of so many fields where that is said.

    A quote that is never closed, or only in a later row, costs its own line and no other.
    """
    mark, end = re.escape(SEPARATORS[form.separator]), form.skip_lines
    while end < len(lines):
        start, end = end, end + 1
        if lines[start].startswith(form.comments):
            continue
        reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), **form.dialect)
        try:
            fields = next(reader)
        except csv.Error as error:
            # Python's reader takes blanks behind a quote for an error, those before it for nothing.
            last = start + reader.line_num - 1
            mended = re.sub(rf'(["\'])[ \t]+(?=[{mark}\r\n]|$)', r"\1", lines[last])
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
            inner = (one for one in lines[start + 1 : end] if form.dialect["quotechar"] not in one)
            if any(len(one) == width for one in csv.reader(inner, **form.dialect)):
                problem, end = "has a quote that is not closed", start + 1
        if found := UNREADABLE.search("".join(lines[start:end])):
            is_nul = found[0] == "\x00"
            problem = "holds NUL bytes" if is_nul else f"is not written in {form.encoding}"
        yield Record(start, end, fields, problem)


def usual_width(records: Sequence[Record]) -> int:
    """How many fields most records have; of as many, the more."""
    widths = Counter(len(one.fields) for one in records if not one.problem)
    return max(widths, key=lambda width: (widths[width], width), default=0)


def guess_csv_form(content: bytes, encoding: str | None = None, header: bool = True) -> CsvForm:
    """Tell how a CSV file is written by its bytes; UTF-8 where its encoding cannot be told."""
    plain = CsvForm(encoding=encoding or _guess_encoding(content), header=header)
    text = content.decode(encoding_of(content, plain.encoding), "surrogateescape")
    lines = io.StringIO(text, newline="").readlines()
    # How a file is written shows in its beginning, but for its quotes.
    sample = [*lines[:_SAMPLE], *[one for one in lines[_SAMPLE:] if '\\"' in one][:_SAMPLE]]
    best, most = plain, 0
    for separator, (quotes, mark) in product(SEPARATORS, _QUOTES.items()):
        form = plain.model_copy(update={"separator": separator, "quotes": quotes})
        fit = _fit([*sample], form) if mark in text else 0
        if fit > most:
            best, most = form, fit
    return best.model_copy(update=_surroundings(lines, best))


def _fit(lines: list[str], form: CsvForm) -> int:
    """How many lines are rows of the usual width in which no mark of quoting is left."""
    records = [one for one in read_records(lines, form) if not one.problem]
    width = usual_width(records)
    if width < 2:
        return 0
    rows = [one for one in records if len(one.fields) >= width and not any(one.fields[width:])]
    return sum(one.end - one.start for one in rows if not any(map(_keeps_quotes, one.fields)))


def _keeps_quotes(field: str) -> bool:
    if field[:1] in ('"', "'"):
        return (len(field) > 1 and field[0] == field[-1]) or field.count(field[0]) % 2 == 1
    return '\\"' in field


def _surroundings(lines: list[str], form: CsvForm) -> dict[str, Any]:
    """The lines before the header, and what lines begin with that are no rows."""
    records, mark = list(read_records(lines[:_SAMPLE], form)), SEPARATORS[form.separator]
    width = usual_width(records)
    # The header may lack a separator with which all rows end.
    rows = [one.fields for one in records if len(one.fields) == width and not one.problem]
    least = width if any(one[-1].strip() for one in rows) else width - 1
    # The header is the first of so many fields of which more than half have a name.
    wide = [place for place, one in enumerate(records) if len(one.fields) >= least]
    first = next((place for place in wide if 2 * sum(map(bool, records[place].fields)) > least), 0)
    # Nor has R a name for the names of rows.
    is_short = first == 1 and len(records[0].fields) == least - 1
    if is_short and any(map(_NUMBER.fullmatch, records[1].fields)):
        first = 0
    skipped = records[first].start if records else 0
    after = [one for one in lines[skipped + 1 :] if one.strip()]
    comments = []
    for sign in ("#", "%", "//"):
        widths = [one.count(mark) + 1 for one in after if one.startswith(sign)]
        if widths and max(widths) < least:
            comments.append(sign)
    label = after[-1].partition(mark)[0] if after else ""
    if _TOTAL.fullmatch(label) and sum(one.startswith(label) for one in after) == 1:
        comments.append(label.strip())
    return {"skip_lines": skipped, "comments": tuple(comments)}


def _guess_encoding(content: bytes) -> str:
    text = content.decode(encoding_of(content), "surrogateescape")
    lines = [one for one in text.split("\n") if not one.isascii()]
    others = [one for one in lines if UNREADABLE.search(one)]
    if 2 * len(others) <= len(lines):
        return "utf-8"
    foreign = "\n".join(others).encode("utf-8", "surrogateescape")
    letters = [one for one in foreign.decode("cp949", "surrogateescape") if not one.isascii()]
    if sum("가" <= one <= "힣" for one in letters) > len(letters) / 2:
        return "cp949"
    # In languages of Western Europe letters that are not ASCII hardly ever follow one another.
    return "utf-8" if re.search(rb"[\x80-\xff]{3}", foreign) else "cp1252"
