"""The pages of the course: both languages say the same, and a part is as large as it should be."""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from course.conftest import in_short_forms, not_copied, run_as_typed
from course.hints import explain, hint, say, within
from course.part import COURSE, parts
from tests.course.readme import blocks, missing_lines

PARTS = pytest.mark.parametrize("folder", parts(), ids=lambda path: path.name)
SECTIONS = {
    "README.md": [
        *("Goal and specification", "Ideas", "Write it", "Check it"),
        *("Make it Kedro", "Meet ours", "Exercises", "What you know now"),
    ],
    "README.ko.md": [
        *("목표와 명세", "개념", "작성하기", "확인하기"),
        *("Kedro로 옮기기", "우리 구현 보기", "연습 문제", "정리"),
    ],
}


def without_code(page: str) -> str:
    return re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S)


@PARTS
def test_a_part_has_the_sections_that_all_parts_have_and_is_no_book(folder):
    for name, sections in SECTIONS.items():
        page = (folder / name).read_text("utf-8")
        assert re.findall("^## (.+)$", without_code(page), re.M) == sections
        assert 1 <= page.count("```mermaid") <= 3
        assert 3 <= page.count("<details>") == page.count("</details>") <= 5
    english = without_code((folder / "README.md").read_text("utf-8"))
    assert 1200 <= len([word for word in english.split() if re.search(r"\w", word)]) <= 2000


@PARTS
def test_both_languages_have_the_same_structure(folder):
    english, korean = ((folder / name).read_text("utf-8") for name in SECTIONS)

    def shape(page: str) -> list[str]:
        return re.findall(r"^#+ |^\| |^\* |^1\. |<details>|\]\(", without_code(page), re.M)

    def plain(page: str) -> list[tuple[str, str]]:
        # A diagram and the comments of code are in the page's language.
        found = [(kind, text) for kind, text in blocks(page) if kind != "mermaid"]
        return [(kind, re.sub(r"(^|\s)# .*$", "", text, flags=re.M)) for kind, text in found]

    assert plain(korean) == plain(english)
    assert shape(korean) == shape(english)


@PARTS
def test_a_part_is_two_to_four_files_of_code_and_says_each_thing_once(folder):
    solved, begun = (
        {path.name: path.read_bytes() for path in (folder / name).iterdir() if path.is_file()}
        for name in ("solution", "starter")
    )
    sizes = {name: text.count(b"\n") for name, text in solved.items() if name.endswith(".py")}

    assert 2 <= len(sizes) <= 4
    assert all(20 <= size <= 110 for size in sizes.values()), sizes
    assert {name for name in begun if name.endswith(".py")} <= set(solved)
    assert not begun.items() & solved.items()


def test_what_pages_link_to_is_there():
    for page in COURSE.glob("**/README*.md"):
        targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
        assert targets, page
        assert [one for one in targets if not (page.parent / one).exists()] == [], page


def test_each_part_has_tests():
    tested = {path.stem for path in Path(__file__).parent.glob("test_part*.py")}

    assert tested == {f"test_{path.name.partition('_')[0]}" for path in parts()}


def test_a_hint_is_in_the_language_of_the_learner(monkeypatch):
    for name in ("HINTS", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "ko_KR.UTF-8")
    assert say("row", "행") == "행"
    monkeypatch.setenv("HINTS", "en")
    assert say("row", "행") == "row"


def another_message() -> None:
    with pytest.raises(SystemExit, match="one"):
        raise SystemExit("another")


def what_is_still_to_be_written() -> None:
    raise AssertionError("exit status 1: NotImplementedError: step 4: text to numbers")


def a_loop_without_an_end() -> None:
    with within(0.2):
        while True:
            with suppress(Exception):
                time.sleep(0.01)


@pytest.mark.parametrize(
    ("fails", "told"),
    [
        (another_message, ["look", "found 'another'"]),
        (
            what_is_still_to_be_written,
            ["Step 4 is still to be written: see its section in the README."],
        ),
        (a_loop_without_an_end, ["look", "StillRunning: after 0.2 s"]),
    ],
)
def test_a_hint_is_followed_by_what_was_found(fails, told, tmp_path, monkeypatch):
    monkeypatch.setenv("HINTS", "en")
    with pytest.raises(Exception, match="look") as caught, hint("look", "거기를 보십시오"):
        fails()
    assert explain(caught.value, tmp_path) == told


def test_an_error_is_told_with_its_place_and_what_is_no_program_goes_before_the_hint(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text("def divide():\n    return 1 / 0\n")
    names: dict[str, Any] = {}
    exec(compile(own.read_text(), own, "exec"), names)

    with pytest.raises(Exception, match="look") as caught, hint("look", ""):
        names["divide"]()
    told = ["look", "mine.py:2: ZeroDivisionError: division by zero"]
    assert explain(caught.value, tmp_path) == told
    with pytest.raises(SyntaxError), hint("look", ""):
        compile("(", "mine.py", "exec")


def test_what_compose_and_docker_take_in_two_forms_is_checked_in_one():
    short = {
        "environment": {"API_URL": "http://api:8000"},
        "depends_on": {"api": {"condition": "service_started"}},
        "ports": ["127.0.0.1:8000:8000"],
        "volumes": ["models:/app/models:ro"],
    }
    port = {"host_ip": "127.0.0.1", "published": 8000, "target": 8000}
    volume = {"type": "volume", "source": "models", "target": "/app/models", "read_only": True}
    long = {
        "environment": ["API_URL=http://api:8000"],
        "depends_on": ["api"],
        "ports": [port],
        "volumes": [volume],
    }
    assert in_short_forms(long) == in_short_forms(short) == short

    for copy in ("COPY a.py b.py ./", "COPY *.py ./", "COPY . .", 'COPY ["a.py", "b.py", "./"]'):
        assert not_copied(f"FROM x\n{copy}\n", "a.py", "b.py") == []
    assert not_copied("FROM x\nCOPY --chown=1 a.py \\\n  c.py ./\n", "a.py", "b.py") == ["b.py"]


def test_a_program_in_the_checks_is_run_as_it_is_typed_and_may_end_with_a_status(tmp_path):
    program = tmp_path / "gate.py"
    program.write_text("if __name__ == '__main__':\n    raise SystemExit(0)\n1 / 0\n")
    run_as_typed(program)
    program.write_text("raise SystemExit('refused')")
    with pytest.raises(SystemExit, match="refused"):
        run_as_typed(program)


def test_a_shown_line_that_did_not_appear_is_found():
    assert missing_lines("a … c\n  d  e\nf", "x a b c y\nd e\n") == ["f"]
