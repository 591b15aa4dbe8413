"""The course is true: its commands run, its outputs appear, both languages say the same."""

import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.course.readme import Terminal, blocks
from tests.end_to_end.commands import Project
from tests.integration.servers import free_port

pytestmark = pytest.mark.end_to_end

COURSE = PROJECT / "docs" / "course"


def chapters() -> list[Path]:
    """The English chapters in their order."""
    return sorted(COURSE.glob("*-*[!o].md"), key=lambda path: int(path.name.split("-")[0]))


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def learner(project: Project, port: int) -> Project:
    """The project as a learner has it after `make setup`."""
    for folder in ("scripts", "data/01_raw"):
        shutil.copytree(PROJECT / folder, project.folder / folder, dirs_exist_ok=True)
    learner = Project(project.folder, {"MLOPS_PORT": str(port)})
    learner.succeed("run", "--pipeline", "data_ingestion")
    return learner


@pytest.mark.parametrize("chapter", chapters(), ids=lambda path: path.stem)
def test_a_chapters_commands_show_what_it_says(chapter: Path, learner: Project, port: int) -> None:
    Terminal(learner.folder, learner, {8000: port}).run_page(chapter.read_text("utf-8"))


@pytest.mark.parametrize("chapter", chapters(), ids=lambda path: path.stem)
def test_the_korean_chapter_has_the_same_commands_and_outputs(chapter: Path) -> None:
    korean = chapter.with_suffix(".ko.md").read_text("utf-8")

    assert blocks(korean) == blocks(chapter.read_text("utf-8"))


@pytest.mark.parametrize("page", sorted(COURSE.glob("*.md")), ids=lambda path: path.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))

    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []
