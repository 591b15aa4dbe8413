"""Files of every kind, packed or not, and scikit-learn's tables: values as they are, or refused."""

import codecs
import datetime as dt
import gzip
import hashlib
import io
import json
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kedro.io import DatasetError
from openpyxl import Workbook
from sklearn.datasets import load_iris

from mlops_for_mle.contract import Feature
from mlops_for_mle.contract.columns import check_columns
from mlops_for_mle.contract.infer.decide import infer_column
from mlops_for_mle.errors import error_message
from mlops_for_mle.pipelines.data_ingestion.sources import (
    FileSourceDataset,
    SklearnTableDataset,
    read_excel,
    read_json,
    read_parquet,
)

_LARGE = 2**53 + 1


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def workbook(**sheets: list[list[Any]]) -> bytes:
    book, file = Workbook(), io.BytesIO()
    book.remove(book.active)
    for name, lines in sheets.items():
        sheet = book.create_sheet(name)
        for line in lines:
            sheet.append(line)
    book.save(file)
    return file.getvalue()


def kinds(rows: pd.DataFrame) -> dict[str, str]:
    return {name: infer_column(name, rows[name]).kind for name in rows.columns}


def lists(rows: pd.DataFrame) -> dict[str, list[Any]]:
    return {
        name: rows[name].astype(object).where(rows[name].notna(), None).tolist() for name in rows
    }


@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (pa.array(["a", "b", None]).dictionary_encode(), "text", ["a", "b", None]),
        (pa.array([1, 2, None]).dictionary_encode(), "integer", [1, 2, None]),
        (pa.array([Decimal("1.10"), None]), "decimal", [Decimal("1.1"), None]),
        (pa.array([Decimal(_LARGE), None]), "text", [Decimal(_LARGE), None]),
        (pa.array([Decimal(f"{10**29}.5"), None]), "decimal", [Decimal(f"{10**29}.5"), None]),
        (pa.array(["a", None, "b"], pa.large_string()), "text", ["a", None, "b"]),
        *((pa.array([1, 2, None], getattr(pa, name)()), "integer", [1, 2, None])
          for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")),
        (pa.array([2**64 - 1, None, 0], pa.uint64()), "text", [2**64 - 1, None, 0]),
        (pa.array([_LARGE, None, 0]), "text", [_LARGE, None, 0]),
        (pa.array([True, None, False]), "boolean", [True, None, False]),
        (pa.array([0.5, None], pa.float32()), "float", [0.5, None]),
        (pa.nulls(2), "other", [None, None]),
        (pa.array([{"a": 1}]), "other", [{"a": 1}]),
        (pa.array([b"\xff", None]), "other", [b"\xff", None]),
        (pa.array([dt.time(9), None]), "other", [dt.time(9), None]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)  # fmt: skip
def test_a_column_of_parquet_is_what_its_type_says(column, kind, values):
    rows = read_parquet(parquet(x=column))

    assert infer_column("x", rows["x"]).kind == kind
    assert lists(rows)["x"] == values


@pytest.mark.parametrize(
    ("column", "kind", "first"),
    [
        (pa.array([1], pa.date32()), "date", "1970-01-02"),
        (pa.array([1_700_000_000], pa.timestamp("s")), "timestamp", "2023-11-14T22:13:20"),
        (pa.array([10**18 + 123_456_789], pa.timestamp("ns")), "timestamp",
         "2001-09-09T01:46:40.123456"),
        (pa.array([1_700_000_000_000_000], pa.timestamp("us", "Asia/Seoul")), "timestamp",
         "2023-11-14T22:13:20"),
        # A year that nobody can hold is a reject.
        (pa.array([4_000_000], pa.date32()), "timestamp", None),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)  # fmt: skip
def test_dates_and_times_of_parquet_are_utc_in_microseconds(column, kind, first):
    rows = read_parquet(parquet(x=column))

    typed, faults = check_columns(rows, {"x": Feature(type=kind)})

    assert typed["x"].tolist() == ([pd.Timestamp(first)] if first else [])
    assert bool(faults) == (first is None)
    assert first is None or infer_column("x", rows["x"]).kind == kind


def test_an_index_is_a_column_where_it_has_a_name():
    file = io.BytesIO()
    frame = pd.DataFrame({"i": pd.array([_LARGE, None], "Int64"), "index": [0.5, 1.0]})
    frame.iloc[::-1].set_index("index", append=True).to_parquet(file)

    rows = read_parquet(file.getvalue()).sort_values("index", ignore_index=True)

    assert lists(rows) == {"i": [_LARGE, None], "index": [0.5, 1.0]}


_LINES: list[list[Any]] = [
    [],
    [None, "Orders of January"],
    [None, "n", 2024, "text", "day", "yes", "mixed"],
    [None, 1, 0.5, "007", pd.Timestamp(2024, 1, 31), True, 1],
    [],
    [None, _LARGE, 1, "NA", None, False, "N/A"],
]


def test_a_sheet_is_read_from_its_first_row_that_is_no_title():
    rows = read_excel(workbook(Orders=_LINES))

    assert kinds(rows) == {
        **{"n": "text", "2024": "float", "text": "text"},
        **{"day": "date", "yes": "boolean", "mixed": "integer"},
    }
    assert lists(rows)["mixed"] == ["1", "N/A"]
    assert lists(rows)["text"] == ["007", "NA"]
    assert lists(rows)["day"] == [pd.Timestamp("2024-01-31"), None]


def test_a_sheet_is_named_where_there_are_several():
    content = workbook(A=[["x"], [1]], B=[["y", "y", None], [2, 3, 4]], C=[])

    # Names are distinct and never blank, as those of CSV.
    assert read_excel(content, "B").to_dict("list") == {"y_1": [2], "y_2": [3], "c2": [4]}
    for sheet, told in ((None, "A, B, C: name one"), ("b", "'b' not found"), ("C", "has no rows")):
        with pytest.raises(ValueError, match=told):
            read_excel(content, sheet)


def test_json_lines_keep_numbers_and_gaps():
    full = {"n": _LARGE, "x": 0.1, "t": "a", "m": 1, "b": True, "l": [1], "at": "2024-01-01T09:00"}
    objects = [full, {"n": None, "x": 2, "m": "N/A", "b": None, "huge": 10**30}]
    lines = "\r\n".join(map(json.dumps, objects)) + "\n\n"
    whole = json.dumps(objects, indent=1)

    for content in (lines.encode(), lines.encode("utf-8-sig"), whole.encode()):
        rows = read_json(content)
        assert kinds(rows) == {
            **{"n": "text", "x": "float", "t": "text", "m": "integer", "b": "boolean"},
            **{"l": "other", "at": "timestamp", "huge": "text"},
        }
        expected = {"n": [_LARGE, None], "x": [0.1, 2], "t": ["a", None]}
        assert lists(rows[[*expected]]) == expected


@pytest.mark.parametrize("odd", ["1" + 5_000 * "0", "[1]"])
def test_a_value_of_json_that_nobody_can_hold_costs_its_own_row_and_no_other(odd):
    rows = read_json(f'{{"x": 1, "t": "a"}}\n{{"x": {odd}, "t": "\\ud83d"}}\n'.encode())

    typed, faults = check_columns(rows, {"x": Feature()})

    assert (typed["x"].tolist(), list(faults)) == ([1], [1])
    assert rows["t"].tolist() == ["a", "?"]


def test_a_line_that_is_no_object_of_json_is_one_reject_with_its_number():
    bad = [b"[1]", b'{"x": 2', b'{"x": "\xff"}', 9_999 * b"["]

    rows = read_json(b"\n".join([b"", b'{"x": 1}', *bad, b'{"x": 3}', b"nu"]))

    assert (rows.index.tolist(), rows["x"].tolist()) == ([0, 5], [1, 3])
    unread = rows.attrs["unread"]
    assert list(unread) == [2, 3, 4, 5, 7]
    assert unread[2].reason == "line 3: expected a JSON object for each row"
    assert unread[4].reason == "line 5: is not written in utf-8"


def refusal(kind: Any, place: Path | str) -> str:
    """What a person is shown."""
    with pytest.raises(DatasetError) as caught:
        FileSourceDataset(kind, str(place)).load()
    return error_message(caught.value)


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("csv", b"", "no lines to read"),
        ("parquet", b"a,b\n", "Parquet"),
        ("excel", b"a,b\n", "zip file"),
        ("json", b"3", "no row can be read, line 1: "),
        ("json", b"[{}", ""),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_its_name(tmp_path, kind, content, said):
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
        ("csv", codecs.BOM_UTF8 + b"a,b\n1,x\n"),
        ("parquet", parquet(a=[1], b=["x"])),
        ("excel", workbook(A=[["a", "b"], [1, "x"]])),
        ("json", b'{"a": 1, "b": "x"}'),
    ],
)
def test_every_kind_of_file_may_be_packed_and_is_identified_by_its_bytes(
    tmp_path, kind, content, suffix, pack
):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(pack(content))

    rows = FileSourceDataset(kind, str(path)).load()

    assert rows.astype(str).to_numpy().tolist() == [["1", "x"]]
    # A mark at the start is none of them.
    plain = content.removeprefix(codecs.BOM_UTF8)
    assert rows.attrs["sha256"] == hashlib.sha256(plain).hexdigest()


def test_an_archive_of_several_files_is_refused_by_their_names(tmp_path):
    (tmp_path / "rows.zip").write_bytes(zipped(b"a\n1\n", "other.csv"))

    assert "found folder/rows, other.csv" in refusal("csv", tmp_path / "rows.zip")


def test_a_table_of_scikit_learn_comes_with_its_target_and_is_kept(tmp_path):
    cache = str(tmp_path / "cache")

    first, second = (SklearnTableDataset("load_iris", cache).load() for _ in range(2))
    samples = [SklearnTableDataset("load_iris", cache, 9, seed=1).load() for _ in range(2)]

    pd.testing.assert_frame_equal(first, load_iris(as_frame=True).frame)
    pd.testing.assert_frame_equal(second, first)
    pd.testing.assert_frame_equal(*samples)
