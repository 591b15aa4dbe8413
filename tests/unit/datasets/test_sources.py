import gzip
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import AbstractDataset, DatasetError

from mlops_for_mle.datasets.csv_text import CsvForm, likely_form, parse
from mlops_for_mle.datasets.sources import (
    CsvSourceDataset,
    ParquetSourceDataset,
    SklearnTableDataset,
    load_sklearn_table,
)
from mlops_for_mle.errors import ConfigurationError, UserError, causes


def refusal(dataset: AbstractDataset[None, pd.DataFrame]) -> str:
    """The sentence that a person is shown, which Kedro wraps."""
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    return next(str(error) for error in causes(caught.value) if isinstance(error, UserError))


def load(folder: Path, content: bytes) -> pd.DataFrame:
    path = folder / "rows.csv"
    path.write_bytes(content)
    return CsvSourceDataset(str(path)).load()


def test_every_field_is_text_as_it_stands(tmp_path: Path) -> None:
    rows = load(tmp_path, b"a,b,c\n1,,NA\n007, x ,nan\n")

    assert rows.to_dict("list") == {"a": ["1", "007"], "b": ["", " x "], "c": ["NA", "nan"]}


@pytest.mark.parametrize(
    "content",
    [
        "a,길이\n1,둘\n".encode(),
        "a,길이\n1,둘\n".encode("utf-8-sig"),
        "a,길이\r\n1,둘\r\n".encode(),
        '"a","길이"\n"1","둘"'.encode(),
        "a,길이\n1,둘\n".encode("utf-16"),
        b"\xfe\xff" + "a,길이\n1,둘\n".encode("utf-16-be"),
    ],
    ids=[
        "utf-8",
        "byte order mark",
        "carriage returns",
        "quotes, no last line end",
        "utf-16",
        "utf-16, the other order",
    ],
)
def test_the_usual_forms_of_csv_are_read_alike(tmp_path: Path, content: bytes) -> None:
    assert load(tmp_path, content).to_dict("list") == {"a": ["1"], "길이": ["둘"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, expected CSV with a header line"),
        (b"\n\n", "is empty, expected CSV with a header line"),
        (b"a,b\n1,2\n1,2,3\n", "is no well-formed CSV file: Expected 2 fields in line 3, saw 3"),
        (b'a,b\n1,"2\n', "is no well-formed CSV file: "),
        (b"a,b\n1,\xff\n", "is no UTF-8 text"),
        ("a,길이\n1,2\n".encode("cp949"), "is no UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16-le"), "holds NUL bytes, expected a CSV file of text"),
        ("a,b\n1,2\n".encode("utf-16") + b"1", "is no UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "holds NUL bytes, expected a CSV file of text"),
        (b"a,b\n1,2,3\n4,5,6\n", "is no well-formed CSV file: "),
    ],
    ids=[
        "empty",
        "blank lines",
        "ragged",
        "open quote",
        "stray byte",
        "cp949",
        "utf-16 without its mark",
        "half a character of utf-16",
        "binary",
        "more fields than names",
    ],
)
def test_what_is_no_csv_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)

    told = refusal(CsvSourceDataset(str(path)))

    assert told.startswith(f"{path}: {message}")
    assert "\n" not in told


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(content=st.binary(max_size=60) | st.text('a1,"\n\r \t;', max_size=30).map(str.encode))
def test_any_file_is_read_or_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    try:
        rows = load(tmp_path, content)
    except DatasetError as error:
        told = any(isinstance(cause, UserError) for cause in causes(error))
    else:
        told = True
        values = rows.to_numpy().ravel()
        assert all(isinstance(value, str) for value in values)

    assert told


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "a,길이\n1,둘\n".encode("cp949"),
            "(byte 2), it looks like CP949 (Korean): set csv_encoding: cp949",
        ),
        ("a,größe\n1,2\n".encode("cp1252"), "(byte 4): set csv_encoding: cp1252, for example"),
        (b"a;b\n1,5;2\n", "no comma stands in its header, which looks separated by semicolon"),
        (b"a\tb\n1\t2\n", "set csv_separator: tab"),
        (b'"a, of x";b\n1;2\n', "set csv_separator: semicolon"),
        (b"PK\x03\x04\x14\x00", "is an Excel workbook or another ZIP archive: save the sheet"),
    ],
    ids=["cp949", "cp1252", "semicolon", "tab", "comma in quotes", "workbook"],
)
def test_a_file_of_another_form_is_told_what_it_looks_like(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)

    assert said in refusal(CsvSourceDataset(str(path)))


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_form_that_is_told_by_a_file_reads_it(encoding: str, separator: str) -> None:
    content = f'a{separator}길이\n1{separator}"둘, 셋; 넷"\n'.encode(encoding)

    rows = parse(content, likely_form(content), "rows.csv")

    assert rows.to_dict("list") == {"a": ["1"], "길이": ["둘, 셋; 넷"]}


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["1,5", "-2,25", "3", ""], ["1.5", "-2.25", "3", ""]),
        (["1,5", "2.5", "3", "x"], ["1,5", "2.5", "3", "x"]),
        (["1,234,567", "a,b", "24.12.2025", "1,"], ["1,234,567", "a,b", "24.12.2025", "1,"]),
    ],
    ids=["decimal commas", "both marks", "other commas"],
)
def test_decimal_commas_are_told_and_read_where_they_are_meant(
    values: list[str], read: list[str]
) -> None:
    content = "a;b\n" + "".join(f"{one};text, more\n" for one in values)

    rows = parse(content.encode(), likely_form(content.encode()), "rows.csv")

    assert rows["a"].tolist() == read
    assert set(rows["b"]) == {"text, more"}


def test_western_text_is_not_taken_for_korean() -> None:
    content = "größe,straße,Ärger\n1,2,3\n".encode("cp1252")

    assert likely_form(content).encoding == "utf-8"
    assert likely_form(content, "cp1252").encoding == "cp1252"
    assert list(parse(content, CsvForm("cp1252"), "rows.csv").columns) == [
        "größe",
        "straße",
        "Ärger",
    ]


def test_a_packed_file_is_unpacked_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    packed = gzip.compress(b"a,b\n1,2\n")
    path.write_bytes(packed)
    assert CsvSourceDataset(str(path)).load().to_dict("list") == {"a": ["1"], "b": ["2"]}

    for damaged in (packed[:-6], b"a,b\n1,2\n", packed[:14] + b"\xff\xff" + packed[16:]):
        path.write_bytes(damaged)
        assert f"{path}: cannot be unpacked: " in refusal(CsvSourceDataset(str(path)))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"encoding": "klingon"}, "csv_encoding: expected an encoding such as utf-8"),
        ({"encoding": "base64"}, "csv_encoding: expected an encoding such as utf-8"),
        ({"decimal": ","}, "csv_decimal: expected one of point, comma (found ',')"),
        ({"separator": ";"}, "csv_separator: expected one of comma, semicolon, tab, pipe"),
    ],
)
def test_a_form_that_there_is_not_is_refused(form: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        CsvSourceDataset("rows.csv", **form)


def test_a_column_that_is_there_twice_stays_so(tmp_path: Path) -> None:
    assert list(load(tmp_path, b"a,b,a\n1,2,3\n").columns) == ["a", "b", "a"]


def test_a_field_that_is_not_there_is_an_empty_text(tmp_path: Path) -> None:
    rows = load(tmp_path, b"a,b\n1\n2,\n")

    assert rows["b"].tolist() == ["", ""]


def test_a_header_without_rows_gives_no_rows(tmp_path: Path) -> None:
    rows = load(tmp_path, b"a,b\n")

    assert rows.empty
    assert list(rows.columns) == ["a", "b"]


@pytest.mark.parametrize("source", [CsvSourceDataset, ParquetSourceDataset])
@pytest.mark.parametrize("address", ["nope://rows", "ftp://127.0.0.1:1/rows"])
def test_an_address_that_cannot_be_opened_is_told(
    source: type[CsvSourceDataset | ParquetSourceDataset], address: str
) -> None:
    assert refusal(source(address)).startswith(f"{address} cannot be used: ")


def test_a_file_that_is_not_there_a_folder_and_a_forbidden_file_are_told(tmp_path: Path) -> None:
    missing = tmp_path / "missing.csv"
    for path, message in ((missing, "there is no such file"), (tmp_path, "is a folder, expected")):
        assert refusal(CsvSourceDataset(str(path))).startswith(f"{path}: {message}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.touch(mode=0o000)

    assert "this user may not read it" in refusal(CsvSourceDataset(str(path)))


def test_a_url_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a\n1\n")

    rows = CsvSourceDataset((tmp_path / "rows.csv").as_uri()).load()

    assert rows.to_dict("list") == {"a": ["1"]}


def test_the_whole_table_comes_with_its_target() -> None:
    rows = SklearnTableDataset("load_iris").load()

    assert rows.shape == (150, 5)
    assert rows["target"].value_counts().tolist() == [50, 50, 50]


def test_a_sample_is_fixed_by_its_seed_and_has_as_many_rows_as_wanted() -> None:
    first, second, other = (
        SklearnTableDataset("load_iris", sample_rows=200, seed=seed).load() for seed in (1, 1, 2)
    )

    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(other)
    assert len(first) == 200
    assert first.index.tolist() == list(range(200))


def test_a_cached_table_is_the_table(tmp_path: Path) -> None:
    cached = SklearnTableDataset("load_iris", cache=str(tmp_path / "cache"))

    first, second = cached.load(), cached.load()

    pd.testing.assert_frame_equal(first, load_sklearn_table("load_iris"))
    pd.testing.assert_frame_equal(second, first)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".parquet"]


def test_the_cache_is_what_is_read_the_second_time(tmp_path: Path) -> None:
    cached = SklearnTableDataset("load_iris", cache=str(tmp_path))
    cached.load()
    (path,) = tmp_path.iterdir()
    pd.DataFrame({"target": [1]}).to_parquet(path)

    assert len(cached.load()) == 1


@pytest.mark.parametrize("loader", ["load_irises", "fetch_openml", "", "__builtins__"])
def test_a_table_that_scikit_learn_does_not_have_is_refused(loader: str) -> None:
    told = refusal(SklearnTableDataset(loader))

    assert "load_iris" in told
    assert told.endswith(f"(found {loader!r})")


def test_decimal_commas_of_every_form_are_read() -> None:
    rows = parse(b"a;b\n1,5e-05;,5\n2,5E+3;-0,25\n", CsvForm("utf-8", "semicolon", "comma"), "rows")

    assert rows["a"].tolist() == ["1.5e-05", "2.5E+3"]
    assert rows["b"].tolist() == [".5", "-0.25"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_start_counts_more_than_what_was_said(encoding: str) -> None:
    rows = parse("größe,b\n1,2\n".encode(encoding), CsvForm("cp1252"), "rows")

    assert list(rows.columns) == ["größe", "b"]


@pytest.mark.parametrize("encoding", ["undefined", "a\0b", "latin-99"])
def test_an_encoding_that_is_none_is_refused(encoding: str) -> None:
    with pytest.raises(ConfigurationError, match="csv_encoding: expected an encoding"):
        CsvForm.checked(encoding, "comma", "point")
