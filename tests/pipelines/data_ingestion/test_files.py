"""Files as people have them, and scikit-learn's tables: read as they are, or refused in words."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import AbstractDataset, DatasetError
from sklearn.datasets import load_iris

from mlops_for_mle.errors import UserError, causes, explain
from mlops_for_mle.pipelines.data_ingestion.csv_text import CsvForm, guess_csv_form, read_csv
from mlops_for_mle.pipelines.data_ingestion.sources import FileSourceDataset, SklearnTableDataset


def csv(path: Path | str, **form: Any) -> FileSourceDataset:
    return FileSourceDataset("csv", str(path), form)


def load(folder: Path, content: bytes, **form: Any) -> pd.DataFrame:
    path = folder / "rows.csv"
    path.write_bytes(content)
    return csv(path, **form).load()


def refusal(dataset: AbstractDataset[None, pd.DataFrame]) -> str:
    """What a person is shown."""
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    return explain(caught.value)


def test_every_field_is_text_as_it_stands_without_the_blanks_around_it(tmp_path: Path) -> None:
    rows = load(tmp_path, b"a,b,c\n1,,NA\n007, x ,nan\n")

    assert rows.to_dict("list") == {"a": ["1", "007"], "b": ["", "x"], "c": ["NA", "nan"]}


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
        *("utf-8", "byte order mark", "carriage returns", "quotes, no last line end"),
        *("utf-16", "utf-16, the other order"),
    ],
)
def test_the_usual_forms_of_csv_are_read_alike(tmp_path: Path, content: bytes) -> None:
    assert load(tmp_path, content).to_dict("list") == {"a": ["1"], "길이": ["둘"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no lines to read"),
        (b"\n\n", "no lines to read"),
        (b'a,b\n1,"2\n', "no row can be read, line 2: unexpected end of data"),
        (b"a,b\n1,2,3\n4,5,6\n", "no row can be read, line 2: has 3 field(s), expected 2"),
        (
            "a,길이\n1,둘\n".encode("cp949"),
            "set csv_encoding, such as cp949, of Korean Windows",
        ),
        ("a,größe\n1,2\n".encode("cp1252"), "set csv_encoding, such as cp1252, of Windows"),
        ("a,b\n1,2\n".encode("utf-16-le"), "or else csv_encoding: utf-16-le"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "holds NUL bytes, so it is no text"),
        (b"PK\x03\x04\x14\x00", "is an Excel workbook or another ZIP archive"),
    ],
    ids=[
        *("empty", "blank lines", "open quote", "more fields than names"),
        *("cp949", "cp1252", "utf-16 without its mark", "binary", "workbook"),
    ],
)
def test_what_is_no_csv_of_this_form_is_told_what_it_looks_like(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)

    told = refusal(csv(path))

    assert told.startswith(f"{path}: ")
    assert said in told


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
)
@given(content=st.binary(max_size=60) | st.text('a1,"\n\r \t;', max_size=30).map(str.encode))
def test_any_file_is_read_as_text_or_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    try:
        rows = load(tmp_path, content)
    except DatasetError as error:
        told = any(isinstance(one, UserError) for one in causes(error))
    else:
        told = all(isinstance(value, str) for value in rows.to_numpy().ravel())

    assert told


@pytest.mark.parametrize("encoding", ["cp949", "euc-kr", "utf-16", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_form_that_is_told_by_a_file_reads_it(encoding: str, separator: str) -> None:
    content = f'a{separator}길이\n1{separator}"둘, 셋; 넷"\n'.encode(encoding)

    rows = read_csv(content, guess_csv_form(content))

    assert rows.to_dict("list") == {"a": ["1"], "길이": ["둘, 셋; 넷"]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_mark_at_the_start_counts_more_than_what_was_said(encoding: str) -> None:
    rows = read_csv("größe,b\n1,2\n".encode(encoding), CsvForm(encoding="cp1252"))

    assert list(rows.columns) == ["größe", "b"]


def test_a_file_of_a_header_alone_has_its_columns(tmp_path: Path) -> None:
    empty = load(tmp_path, b"a,b\n")
    assert (list(empty.columns), len(empty)) == (["a", "b"], 0)


def test_a_file_is_identified_by_its_bytes_packed_or_not_with_a_mark_or_without(
    tmp_path: Path,
) -> None:
    content = b"a;b\n1,5;2\n"
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(content))

    found = {
        load(tmp_path, content, separator="semicolon").attrs["sha256"],
        load(tmp_path, content, separator="semicolon", quotes="none").attrs["sha256"],
        load(tmp_path, b"\xef\xbb\xbf" + content, separator="semicolon").attrs["sha256"],
        csv(tmp_path / "rows.csv.gz", separator="semicolon").load().attrs["sha256"],
    }

    assert found == {hashlib.sha256(content).hexdigest()}


def test_a_parquet_file_keeps_its_types_and_whole_numbers_beside_gaps(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    large = 2**53 + 1
    rows = pd.DataFrame({"n": pd.array([large, None], "Int64"), "t": ["x", None], "f": [0.5, 1.0]})
    rows.set_index("f").to_parquet(path)

    found = FileSourceDataset("parquet", str(path)).load()

    assert found["n"].tolist() == [large, pd.NA]
    assert found["t"].isna().tolist() == [False, True]
    assert found["f"].tolist() == [0.5, 1.0]
    assert found.attrs["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, kind: Any) -> None:
    for place in (tmp_path / "missing", tmp_path, "nope://rows", "ftp://127.0.0.1:1/rows"):
        assert refusal(FileSourceDataset(kind, str(place))).startswith(f"{place}: ")
    (tmp_path / "rows").write_text("a,b\n")
    if kind == "parquet":
        assert "Parquet" in refusal(FileSourceDataset(kind, str(tmp_path / "rows")))


def test_a_table_of_scikit_learn_comes_with_its_target_and_is_kept(tmp_path: Path) -> None:
    kept = SklearnTableDataset("load_iris", str(tmp_path / "cache"))

    first, second = kept.load(), kept.load()
    samples = [SklearnTableDataset("load_iris", str(tmp_path / "cache"), 9, 1) for _ in range(2)]

    pd.testing.assert_frame_equal(first, load_iris(as_frame=True).frame)
    pd.testing.assert_frame_equal(second, first)
    pd.testing.assert_frame_equal(*(one.load() for one in samples))
    (path,) = (tmp_path / "cache").iterdir()
    pd.DataFrame({"target": [1]}).to_parquet(path)
    assert len(kept.load()) == 1
