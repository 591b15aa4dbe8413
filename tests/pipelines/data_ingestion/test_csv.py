"""CSV as people write it: the right values, and each line that is no row with its reason."""

import csv
import io
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops_for_mle.pipelines.data_ingestion.csv_text import SEPARATORS, CsvForm, guess_csv_form
from mlops_for_mle.pipelines.data_ingestion.sources import read_csv

TWO = {"a": ["1", "3"], "b": ["2", "4"]}


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('a, b \n 1, "p, q" \n2,x\n', {"a": ["1", "2"], "b": ["p, q", "x"]}),
        ('a, b\n1, ""\n2, "x"\n', {"a": ["1", "2"], "b": ["", "x"]}),
        ("a,b\n1,2,\n3,4\n", TWO),
        ("a,b,\n1,2\n3,4\n", TWO),
        ("# exported, today\n# by x\na,b\n1,2\n3,4\n", TWO),
        ("a,b\n1,2\n# a remark\n3,4\n", TWO),
        ("A list of numbers\n\na,b\n1,2\n3,4\n", TWO),
        ("sep=;\na;b\n1;2\n3;4\n", TWO),
        ("a,b\n1,2\n\n,\n3,4\n , \n", TWO),
        ("a,b\n1,2\n3,4\nTotal,6\n", TWO),
        ("a,b\r1,2\r3,4", TWO),
        ("a   b\n1  2 \n 3  4\n", TWO),
        ('a,b\n1,"say ""hi"", x"\n2,"C:\\"\n', {"a": ["1", "2"], "b": ['say "hi", x', "C:\\"]}),
        ('a,b\n1,"say \\"hi\\", x"\n2,y\n', {"a": ["1", "2"], "b": ['say "hi", x', "y"]}),
        ("'a','b'\n'1','x, y'\n'2','z'\n", {"a": ["1", "2"], "b": ["x, y", "z"]}),
        ('a\tb\n5" pipe\t1\n"q" x\t2\n', {"a": ['5" pipe', '"q" x'], "b": ["1", "2"]}),
        ('a,b\n1,"x\r\ny"\r\n2,z\r\n', {"a": ["1", "2"], "b": ["x\r\ny", "z"]}),
        ("id,tags\n1,x;y\n2,z;w\n", {"id": ["1", "2"], "tags": ["x;y", "z;w"]}),
        ("#x\ty\n1\t2\n", {"#x": ["1"], "y": ["2"]}),
        ("a,b,c\n1,,NA\n007,x,nan\n", {"a": ["1", "007"], "b": ["", "x"], "c": ["NA", "nan"]}),
        ("a,b\n", {"a": [], "b": []}),
        # Names are of one form, distinct and never blank.
        (
            unicodedata.normalize("NFD", "길이") + ",,a,a,A\n1,2,3,4,5\n",
            {"길이": ["1"], "c1": ["2"], "a_1": ["3"], "a_2": ["4"], "A": ["5"]},
        ),
    ],
)
def test_what_is_no_part_of_the_table_is_told_from_it(content, columns):
    raw = content.encode()
    rows = read_csv(raw, guess_csv_form(raw))

    assert (rows.to_dict("list"), rows.attrs["unread"]) == (columns, {})


@pytest.mark.parametrize(
    ("line", "reason", "kept"),
    [
        (b"1,2,3", "has 3 field(s), expected 2", "1,2,3"),
        (b"1,\x00", "holds NUL bytes", "1,\x00"),
        (b'1,"2', "',' expected after '\"'", '1,"2'),
        (b"1,Stra\xdfe", "is not in csv_encoding utf-8", "1,Stra\\xdfe"),
        (b'"x"y,2', "',' expected after '\"'", '"x"y,2'),
    ],
)
def test_a_row_that_cannot_be_read_is_one_reject_with_its_line(line, reason, kept):
    good = ['"하나","p"', '"2","q, r"', '"3","s"'] * 3
    lines = [b'"a","b"', *(one.encode() for one in good)]
    lines.insert(4, line)

    rows = read_csv(b"\n".join(lines), CsvForm())

    assert rows["b"].tolist() == ["p", "q, r", "s"] * 3
    assert rows.attrs["unread"] == {4: (f"line 5: {reason}", kept)}
    assert rows.index.tolist() == [n for n in range(10) if n != 3]


def test_a_quote_that_is_closed_rows_later_costs_its_own_line_and_no_other():
    rows = read_csv(b'a,b\n1,"2\n3,4\n5,6",x\n7,8\n', CsvForm())

    assert rows.to_numpy().tolist() == [["3", "4"], ["7", "8"]]
    assert rows.attrs["unread"] == {
        1: ("line 2: has a quote that is not closed", '1,"2'),
        3: ("line 4: has 3 field(s), expected 2", '5,6",x'),
    }


@pytest.mark.parametrize(
    ("encoding", "guessed"),
    [
        *(("utf-8", "utf-8"), ("cp949", "cp949"), ("euc-kr", "cp949"), ("cp1252", "cp1252")),
        # Their marks say so, whatever is said of them.
        *(("utf-16", "utf-8"), ("utf-8-sig", "utf-8")),
    ],
)
def test_the_encoding_is_told_by_the_bytes(encoding, guessed):
    name = "größe" if encoding == "cp1252" else "길이"
    for separator in ",;\t|":
        content = f'{name}{separator}a\n1{separator}"p, q; r"\n'.encode(encoding)
        form = guess_csv_form(content)

        assert form.encoding == guessed
        for said in (form, form.model_copy(update={"encoding": encoding.removesuffix("-sig")})):
            assert read_csv(content, said).to_dict("list") == {name: ["1"], "a": ["p, q; r"]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'a,b\n1,"2\n', "no row can be read, line 2: unexpected end of data"),
        ("a,길이\n1,둘\n".encode("cp949"), "line 1: is not in csv_encoding utf-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1: holds NUL bytes"),
        (b"PK\x03\x04\x14\x00", "is an Excel workbook or another ZIP archive"),
    ],
)
def test_what_is_no_csv_of_this_form_is_told_what_it_looks_like(content, said):
    with pytest.raises(ValueError) as caught:
        read_csv(content, CsvForm())

    assert said in str(caught.value)


FIELDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"])
    | st.sampled_from(' ,;\t|"\n'),
    max_size=6,
).map(str.strip)


@given(
    rows=st.lists(st.tuples(FIELDS, FIELDS, st.just("x")), min_size=1, max_size=12),
    separator=st.sampled_from(["comma", "semicolon", "tab", "pipe"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@example([('"', ',"', "x")], "comma", "utf-8", "\n", csv.QUOTE_MINIMAL)
def test_what_a_csv_writer_wrote_is_read_back(rows, separator, encoding, line_end, quoting):
    """By the fast reader, and by the careful one, which a line that is no row calls for."""
    file = io.StringIO(newline="")
    dialect = {"delimiter": SEPARATORS[separator], "lineterminator": line_end, "quoting": quoting}
    csv.writer(file, **dialect).writerows([("one", "two", "three"), *rows])

    for bad, unread in (("", []), ("1", [len(rows) + 1])):
        content = f"{file.getvalue()}{bad}".encode(encoding)
        found = read_csv(content, CsvForm(separator=separator))
        assert list(found.attrs["unread"]) == unread
        assert list(found.itertuples(index=False, name=None)) == rows


@settings(max_examples=100)
@given(st.binary(max_size=60) | st.text("ab1,\"'\\\n\r \t;#", max_size=40).map(str.encode))
def test_any_bytes_are_read_in_the_form_that_they_tell_or_refused(content):
    for form in (CsvForm(), guess_csv_form(content)):
        try:
            rows = read_csv(content, form)
        except ValueError:
            continue
        assert all(isinstance(value, str) for value in rows.to_numpy().ravel())
