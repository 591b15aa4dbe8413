"""Files by their names, packed or not, and scikit-learn's tables: read, or refused in words."""

import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import DatasetError
from sklearn.datasets import load_iris

from mlops_for_mle.errors import explain
from mlops_for_mle.pipelines.data_ingestion.sources import FileSourceDataset, SklearnTableDataset
from tests.pipelines.data_ingestion.test_typed_files import parquet, workbook


def refusal(kind: Any, place: Path | str) -> str:
    """What a person is shown."""
    with pytest.raises(DatasetError) as caught:
        FileSourceDataset(kind, str(place)).load()
    return explain(caught.value)


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("csv", b"", "no lines to read"),
        ("parquet", b"a,b\n", "Parquet"),
        ("excel", b"a,b\n", "zip file"),
        *(("json", one, "") for one in (b"{", b'{"a": 1}\n[1]\n', b"3", b"[3]", b"\xff")),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_its_name(
    tmp_path: Path, kind: str, content: bytes, said: str
) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)

    told = refusal(kind, path)

    assert told.startswith(f"{path}: ")
    assert said in told
    for place in (tmp_path / "missing", tmp_path, "nope://rows", "ftp://127.0.0.1:1/rows"):
        assert refusal(kind, place).startswith(f"{place}: ")


def zipped(content: bytes, *others: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("folder/rows", content)
        for name in ("folder/", "__MACOSX/folder/._rows", *others):
            archive.writestr(name, "")
    return file.getvalue()


@pytest.mark.parametrize(
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".zip", zipped)]
)
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv", b"a,b\n1,x\n"),
        ("parquet", parquet(a=[1], b=["x"])),
        ("excel", workbook(A=[["a", "b"], [1, "x"]])),
        ("json", b'{"a": 1, "b": "x"}'),
    ],
)
def test_every_kind_of_file_may_be_packed_and_is_identified_by_its_bytes(
    tmp_path: Path, kind: Any, content: bytes, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(pack(content))

    rows = FileSourceDataset(kind, str(path)).load()

    assert rows.astype(str).to_numpy().tolist() == [["1", "x"]]
    assert rows.attrs["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_csv_file_is_the_same_with_a_mark_and_however_it_is_read(tmp_path: Path) -> None:
    path, found = tmp_path / "rows.csv", set[str]()
    for mark, form in ((b"", {}), (b"", {"quotes": "none"}), (b"\xef\xbb\xbf", {})):
        path.write_bytes(mark + b"a;b\n1,5;2\n")
        rows = FileSourceDataset("csv", str(path), {"separator": "semicolon", **form}).load()
        found.add(rows.attrs["sha256"])

    assert len(found) == 1


def test_an_archive_of_several_files_is_refused_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "rows.zip").write_bytes(zipped(b"a\n1\n", "other.csv"))

    assert "found folder/rows, other.csv" in refusal("csv", tmp_path / "rows.zip")


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
