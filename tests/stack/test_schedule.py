import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.servers import eventually
from tests.stack.compose_file import PROJECT

SCRIPT = PROJECT / "deploy/bin/schedule.py"
Start = Callable[[str, str], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the schedule with a program in place of the pipelines."""
    started: list[subprocess.Popen[str]] = []

    def begin(every: str, program: str) -> subprocess.Popen[str]:
        (tmp_path / "run_pipeline").write_text(f"#!/bin/sh\ncd {tmp_path}\n{program}\n")
        (tmp_path / "run_pipeline").chmod(0o755)
        process = subprocess.Popen(
            [sys.executable, SCRIPT], env=_environment(tmp_path, every), text=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_the_pipelines_run_at_once_and_again_after_the_interval(
    start: Start, tmp_path: Path
) -> None:
    start("300ms", "echo run >> runs")
    assert eventually(lambda: _runs(tmp_path) >= 3)
    assert check(tmp_path) == 0


def test_it_is_unhealthy_until_a_run_has_ended_well(start: Start, tmp_path: Path) -> None:
    start("1h", "while [ ! -e go ]; do sleep 0.05; done; exit $(cat go)")
    assert check(tmp_path) == 1
    (tmp_path / "go").write_text("0")
    assert eventually(lambda: check(tmp_path) == 0)


def test_a_run_that_fails_makes_it_unhealthy_and_is_tried_again(
    start: Start, tmp_path: Path
) -> None:
    start("200ms", "echo run >> runs; [ -e mended ]")
    assert eventually(lambda: _runs(tmp_path) >= 2)
    assert check(tmp_path) == 1
    (tmp_path / "mended").touch()
    assert eventually(lambda: check(tmp_path) == 0)


def test_off_runs_nothing_and_is_healthy(start: Start, tmp_path: Path) -> None:
    process = start("off", "echo run >> runs")
    assert eventually(lambda: check(tmp_path) == 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert _runs(tmp_path) == 0


def test_the_end_lets_a_run_that_is_under_way_finish(start: Start, tmp_path: Path) -> None:
    process = start("1h", "echo run >> runs; sleep 1; echo over >> over")
    assert eventually(lambda: _runs(tmp_path) == 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert (tmp_path / "over").exists()


@pytest.mark.parametrize("every", ["hourly", "0s", "10"])
def test_a_wrong_interval_is_explained(every: str, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, SCRIPT],
        env=_environment(tmp_path, every),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert found.returncode == 2
    assert found.stderr.startswith("PIPELINE_EVERY: expected")
    assert "off" in found.stderr


def check(folder: Path) -> int:
    return subprocess.run(
        [sys.executable, SCRIPT, "--check"],
        env=_environment(folder, "1h"),
        capture_output=True,
        check=False,
    ).returncode


def _environment(folder: Path, every: str) -> dict[str, str]:
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "TMPDIR": str(folder), "PIPELINE_EVERY": every}


def _runs(folder: Path) -> int:
    runs = folder / "runs"
    return len(runs.read_text().splitlines()) if runs.exists() else 0
