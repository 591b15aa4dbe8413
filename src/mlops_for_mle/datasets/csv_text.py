"""CSV files as people have them: their encoding and separator, and how to tell these."""

import codecs
import io
import re
from typing import Literal, NamedTuple, cast, get_args

import pandas as pd

from mlops_for_mle.errors import ConfigurationError, SourceError

Separator = Literal["comma", "semicolon", "tab", "pipe"]
Decimal = Literal["point", "comma"]

SEPARATORS: dict[Separator, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_KOREAN = "cp949"
# Text of another encoding that happens to be valid CP949 has hardly any Hangul.
_SHARE_OF_HANGUL = 0.5
# How a file is written shows in its beginning.
_SAMPLE = 2**20
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMMA_NUMBER = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"
_ZIP_MARK = b"PK\x03\x04"


class CsvForm(NamedTuple):
    """How a CSV file is written.

    Attributes:
        encoding: A name that Python knows; a mark of UTF-8 or UTF-16 at the start of a file counts
            more.
        separator: What stands between two fields, by its name.
        decimal: What stands before the fraction of a number, by its name.
    """

    encoding: str = "utf-8"
    separator: Separator = "comma"
    decimal: Decimal = "point"

    @classmethod
    def checked(cls, encoding: str, separator: str, decimal: str) -> "CsvForm":
        """Take a form out of configuration.

        Raises:
            ConfigurationError: Names the key and what is allowed.
        """
        try:
            "".encode(encoding)
        except (LookupError, ValueError):
            raise ConfigurationError(
                "csv_encoding: expected an encoding such as utf-8, utf-16, cp949 or cp1252 "
                f"(found {encoding!r})"
            ) from None
        for key, value, allowed in (
            ("csv_separator", separator, get_args(Separator)),
            ("csv_decimal", decimal, get_args(Decimal)),
        ):
            if value not in allowed:
                raise ConfigurationError(
                    f"{key}: expected one of {', '.join(allowed)} (found {value!r})"
                )
        return cls(encoding, cast("Separator", separator), cast("Decimal", decimal))


def likely_form(content: bytes, encoding: str | None = None) -> CsvForm:
    """Tell a file's form by its bytes.

    Args:
        content: The whole file.
        encoding: Where it is known; else UTF-8 for what is neither that nor Korean.
    """
    encoding = encoding or ("utf-8" if _is_text(content, "utf-8") else _other_encoding(content))
    form = CsvForm(encoding or "utf-8")
    try:
        text = _as_utf8(content, form.encoding)
    except UnicodeError:
        return form
    header = _header(text)
    counts = {name: header.count(mark) for name, mark in SEPARATORS.items()}
    separator = max(counts, key=lambda name: counts[name])
    has_commas = separator != "comma" and _has_only_comma_numbers(text, SEPARATORS[separator])
    return CsvForm(form.encoding, separator, "comma" if has_commas else "point")


def parse(content: bytes, form: CsvForm, where: str) -> pd.DataFrame:
    """Read the bytes of a CSV file with a header: every column as text.

    Args:
        content: The whole file.
        form: How it is written.
        where: Names the file in errors.

    Raises:
        SourceError: It is empty, of another form or no CSV; says what it looks like.
    """
    if content.startswith(_ZIP_MARK):
        raise SourceError(
            f"{where}: is an Excel workbook or another ZIP archive: save the sheet as CSV (UTF-8)"
        )
    try:
        # Bytes of zero are usual in UTF-16 only, and tell what is no text at all.
        text = content if _holds_nul(content, form) else _as_utf8(content, form.encoding)
    except UnicodeError as error:
        raise SourceError(_other_encoding_than(form.encoding, content, error, where)) from None
    if b"\x00" in text:
        raise SourceError(
            f"{where}: holds NUL bytes, expected a CSV file of text (if it is UTF-16 without its "
            "mark, set csv_encoding: utf-16-le)"
        )
    _check_separator(_header(text), form, where)
    try:
        # Given the header, pandas would rename a repeated column and take surplus fields at
        # the start of the rows for an index.
        lines = pd.read_csv(
            io.BytesIO(text),
            header=None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            sep=SEPARATORS[form.separator],
        )
    except pd.errors.EmptyDataError:
        raise SourceError(f"{where}: is empty, expected CSV with a header line") from None
    except pd.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise SourceError(f"{where}: is no well-formed CSV file: {reason}") from None
    rows = lines.iloc[1:]
    if form.decimal == "comma":
        rows = rows.apply(_with_points)
    return rows.set_axis(lines.iloc[0].tolist(), axis="columns").reset_index(drop=True)


def _as_utf8(content: bytes, encoding: str) -> bytes:
    # A mark at the start counts more than what somebody has said.
    if content.startswith(codecs.BOM_UTF8):
        encoding = "utf-8"
    elif content.startswith(_UTF_16_MARKS) and not _is_wide(encoding):
        encoding = "utf-16"
    if codecs.lookup(encoding).name == "utf-8":
        # The bytes stay as they are; this is the fastest way to know that they are text.
        str(content, "utf-8")
        return content
    return content.decode(encoding).encode()


def _is_wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def _holds_nul(content: bytes, form: CsvForm) -> bool:
    return (
        not _is_wide(form.encoding) and not content.startswith(_UTF_16_MARKS) and b"\x00" in content
    )


def _is_text(content: bytes, encoding: str) -> bool:
    try:
        _as_utf8(content, encoding)
    except UnicodeError:
        return False
    return True


def _other_encoding(content: bytes) -> str | None:
    """CP949 where bytes that are no UTF-8 are mostly Hangul in it, else None."""
    try:
        text = content.decode(_KOREAN)[:_SAMPLE]
    except UnicodeError:
        return None
    foreign = sum(not one.isascii() for one in text)
    hangul = sum("가" <= one <= "힣" for one in text)
    return _KOREAN if hangul > _SHARE_OF_HANGUL * foreign else None


def _header(text: bytes) -> str:
    """The first line that holds anything, without what stands in quotes."""
    start = text.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")[:_SAMPLE].decode(errors="ignore")
    return re.sub(r'"[^"]*"', "", start).partition("\n")[0]


def _with_points(column: "pd.Series[str]") -> "pd.Series[str]":
    """A column in which numbers with a decimal comma have a point."""
    is_number = column.str.fullmatch(rf"\s*{_COMMA_NUMBER}\s*")
    return column.where(~is_number, column.str.replace(",", ".", regex=False))


def _has_only_comma_numbers(text: bytes, separator: str) -> bool:
    """Whether fields are numbers with a decimal comma, and none are numbers with a point."""
    lines = text[:_SAMPLE].decode(errors="ignore").split("\n")[1:]
    fields = {one.strip('"\r ') for line in lines for one in line.split(separator)}
    has_points = any(re.fullmatch(r"[+-]?\d+\.\d+", one) for one in fields)
    return not has_points and any(re.fullmatch(_COMMA_NUMBER, one) for one in fields)


def _check_separator(header: str, form: CsvForm, where: str) -> None:
    if SEPARATORS[form.separator] in header:
        return
    for name, mark in SEPARATORS.items():
        if mark in header:
            raise SourceError(
                f"{where}: no {form.separator} stands in its header, which looks separated by "
                f"{name}: set csv_separator: {name} in globals.yml of the environment, or give "
                f"--params csv_separator={name}"
            )


def _other_encoding_than(encoding: str, content: bytes, error: UnicodeError, where: str) -> str:
    place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
    shown = encoding.upper()
    likely = _other_encoding(content) if shown != _KOREAN.upper() else None
    looks = f", it looks like {likely.upper()} (Korean)" if likely else ""
    known = likely or "cp1252"
    example = "" if likely else ", for example of Windows in western Europe,"
    return (
        f"{where}: is no {shown} text{place}{looks}: set csv_encoding: {known}{example} in "
        "globals.yml of the environment (for `kedro contract infer`: --encoding), or "
        f"{_conversion(known.upper(), where)}"
    )


def _conversion(encoding: str, where: str) -> str:
    return f"convert it with `iconv -f {encoding} -t UTF-8 '{where}' > utf8.csv`"
