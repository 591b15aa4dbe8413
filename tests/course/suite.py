"""What holds for every part of the course; `test_partN.py` names the part and typical mistakes."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from course.part import lay, part
from tests.conftest import PROJECT
from tests.course.readme import Terminal
from tests.end_to_end.commands import fork
from tests.servers import DatabaseServer, free_port


@dataclass(frozen=True)
class Mistake:
    """A way to get the solution wrong, and the check that must notice."""

    file: str
    right: str
    wrong: str
    noticed_by: str


@dataclass(frozen=True)
class Variant:
    """Another right way to write what stands in the solution, and a check that must accept it."""

    file: str
    ours: str
    theirs: str
    accepted_by: str


class PartSuite:
    """The tests of one part."""

    number: ClassVar[int]
    mistakes: ClassVar[tuple[Mistake, ...]]
    variants: ClassVar[tuple[Variant, ...]] = ()
    # The ports that the README names, with the variable that tells a server of ours of another.
    ports: ClassVar[tuple[int, ...]] = (8000,)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "mistake" in metafunc.fixturenames:
            metafunc.parametrize("mistake", self.mistakes, ids=lambda one: one.noticed_by)

    @pytest.fixture
    def solution(self, tmp_path):
        lay(tmp_path / "work", part(self.number), solved=True)
        return tmp_path / "work"

    def test_the_solution_passes_its_checks(self, solution, embedded_server):
        status, output = self.check(solution, embedded_server)

        assert status == 0, output
        assert "✗" not in output

        for one in self.variants:
            self.change(solution / one.file, one.ours, one.theirs)
        if self.variants:
            chosen = " or ".join(f"test_{one.accepted_by}" for one in self.variants)
            status, output = self.check(solution, embedded_server, "-k", chosen)
            assert status == 0, output

    def test_the_starter_fails_all_checks_with_hints(self, tmp_path, embedded_server):
        lay(tmp_path / "work", part(self.number))

        status, output = self.check(tmp_path / "work", embedded_server)

        assert status == 1, output
        assert "✓" not in output
        assert "Traceback" not in output
        assert re.search(r"✗ .+\n    .*[가-힣]", output), output

    def test_a_typical_mistake_is_noticed(self, mistake, solution, embedded_server):
        self.change(solution / mistake.file, mistake.right, mistake.wrong)

        status, output = self.check(solution, embedded_server, "-k", f"test_{mistake.noticed_by}")

        assert status == 1, output
        title = mistake.noticed_by.replace("_", " ")
        assert re.search(rf"✗ {title}.*\n    .*[가-힣]", output), output

    @pytest.mark.end_to_end
    def test_the_commands_of_the_readme_show_what_it_says(self, project):
        """In a fresh project: "Meet ours" in a new terminal there, all before it in work/partN."""
        ports = {named: free_port() for named in self.ports}
        if 8000 in ports:
            project.variables["MLOPS_PORT"] = str(ports[8000])
        for name in ("scripts", "course"):
            (project.folder / name).symlink_to(PROJECT / name)
        work = project.folder / f"work/part{self.number}"
        lay(work, part(self.number), solved=True)
        page = (part(self.number) / "README.md").read_text("utf-8")
        theirs, heading, ours = page.partition("\n## Meet ours\n")
        assert heading
        Terminal(work, project, ports).run_page(theirs)
        Terminal(project.folder, project, ports).run_page(ours)

    def change(self, file: Path, text: str, other: str) -> None:
        whole = file.read_text("utf-8")
        assert text in whole
        file.write_text(whole.replace(text, other), "utf-8")

    def check(self, work: Path, server: DatabaseServer, *options: str) -> tuple[int, str]:
        """Run the part's checks with Korean hints; gives the exit status and what was said."""
        command = ("course.part", "check", str(self.number), "--work", str(work), *options)
        # Not where a session of this process has logged to.
        kept = {name: one for name, one in os.environ.items() if not name.startswith("MLFLOW_")}
        environment = {**kept, "HINTS": "ko"}
        finished = fork(PROJECT, environment, *command, "--server", server.url)
        return finished.code, finished.text
