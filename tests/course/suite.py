"""What holds for every part of the course; `test_partN.py` names the part and typical mistakes."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

from course.part import lay, part
from tests import PROJECT
from tests.course.readme import Terminal
from tests.end_to_end.commands import fork
from tests.servers import DatabaseServer, free_port


class Change(NamedTuple):
    """Another way to write what stands in the solution, and the check that tells if it is right."""

    file: str
    ours: str
    theirs: str
    check: str


class PartSuite:
    """The tests of one part."""

    number: ClassVar[int]
    # What a check must notice, and what it must accept.
    mistakes: ClassVar[tuple[Change, ...]]
    variants: ClassVar[tuple[Change, ...]] = ()
    # The ports that the README names, with the variable that tells a server of ours of another.
    ports: ClassVar[tuple[int, ...]] = (8000,)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "mistake" in metafunc.fixturenames:
            metafunc.parametrize("mistake", self.mistakes, ids=lambda one: one.check)

    @pytest.fixture
    def solution(self, tmp_path):
        lay(tmp_path / "work", part(self.number), solved=True)
        return tmp_path / "work"

    def test_the_solution_passes_its_checks(self, solution, embedded_server):
        status, output = self.check(solution, embedded_server)

        assert status == 0, output
        assert "✗" not in output

        if self.variants:
            chosen = self.change(solution, *self.variants)
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
        chosen = self.change(solution, mistake)

        status, output = self.check(solution, embedded_server, "-k", chosen)

        assert status == 1, output
        title = mistake.check.replace("_", " ")
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
        try:
            Terminal(work, project, ports).run_page(theirs)
            # One server for all commands; tests/end_to_end has each start and stop it.
            with project.held():
                Terminal(project.folder, project, ports).run_page(ours)
        finally:
            # It runs in the background, and must end even where something fails.
            if (work / "broker.py").exists():
                subprocess.run([sys.executable, "broker.py", "stop"], cwd=work, check=False)

    def change(self, work: Path, *changes: Change) -> str:
        """Write something else; gives how pytest chooses the checks of it."""
        for file, ours, theirs, _ in changes:
            whole = (work / file).read_text("utf-8")
            assert ours in whole
            (work / file).write_text(whole.replace(ours, theirs), "utf-8")
        return " or ".join(f"test_{one.check}" for one in changes)

    def check(self, work: Path, server: DatabaseServer, *options: str) -> tuple[int, str]:
        """Run the part's checks with Korean hints; gives the exit status and what was said."""
        command = ("course.part", "check", str(self.number), "--work", str(work), *options)
        # Not where a session of this process has logged to.
        kept = {name: one for name, one in os.environ.items() if not name.startswith("MLFLOW_")}
        environment = {**kept, "HINTS": "ko"}
        finished = fork(PROJECT, environment, *command, "--server", server.url)
        return finished.code, finished.text
