"""Each part of the course: its solution passes, mistakes are noticed, and its page is true."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from course.part import lay, part
from tests.conftest import PROJECT
from tests.course.readme import Terminal
from tests.end_to_end.commands import fork
from tests.servers import DatabaseServer, free_port

PARTS = pytest.mark.parametrize("number", range(1, 10))
# The ports that a README names, where it names others than the API's.
PORTS = {3: [5000], 6: [5000, 8000, 8001], 7: [9092], 9: [8000, 8001]}


class Change(NamedTuple):
    """Another way to write what stands in a solution, and the check that tells if it is right."""

    path: str
    ours: str
    theirs: str
    check: str

    @property
    def number(self) -> int:
        return int(self.path[4])


# What a check must notice, and what it must accept.
MISTAKES = [
    Change(
        "part1/migrate.py",
        "with connection, connection.cursor() as cursor:",
        "connection.autocommit = True\n    with connection.cursor() as cursor:",
        "a_migration_that_fails_leaves_nothing_behind",
    ),
    Change(
        "part1/generator.py",
        "with connection, connection.cursor() as cursor:\n        cursor.executemany(",
        "for row in rows:\n      with connection, connection.cursor() as cursor:\n"
        "        rows = [row]\n        cursor.executemany(",
        "kill_9_leaves_no_half_batch",
    ),
    Change(
        "part1/generator.py",
        "cursor.executemany(INSERT, [(*row, source) for row in rows])",
        'cursor.execute(INSERT.replace("%s", "{}").format(*rows[0], f"\'{source}\'"))',
        "text_from_outside_never_becomes_sql",
    ),
    Change(
        "part1/generator.py",
        "with connection, connection.cursor() as cursor:\n        cursor.executemany("
        "INSERT, [(*row, source) for row in rows])",
        "cursor = connection.cursor()\n    "
        'cursor.execute(INSERT.replace("%s", "{}").format(*rows[0], f"\'{source}\'"))',
        "text_from_outside_never_becomes_sql",
    ),
    Change(
        "part2/data.py",
        "[FEATURES], index=False",
        "[FEATURES], index=True",
        "a_hash_split_does_not_leak",
    ),
    Change(
        "part2/data.py",
        "hashes % 1000 < 1000 * fraction",
        "hashes.rank() < len(rows) * fraction",
        "a_row_keeps_its_side_when_the_table_grows",
    ),
    Change(
        "part2/train.py",
        'load(folder / "model.skops")',
        'load(folder / "model.skops", trusted=["shutil.rmtree"])',
        "a_file_with_foreign_code_is_not_loaded",
    ),
    Change(
        "part3/save_model_to_registry.py",
        "with mlflow.start_run():",
        "mlflow.start_run()\n    if True:",
        "a_training_that_fails_leaves_a_run_that_failed",
    ),
    Change(
        "part3/registry.py",
        "if not math.isclose(measured, recorded):",
        "if False:",
        "a_model_that_is_not_what_its_run_measured_gets_no_alias",
    ),
    Change(
        "part3/compose.yaml",
        "127.0.0.1:5000:5000",
        "5000:5000",
        "compose_opens_the_registry_to_this_machine_only",
    ),
    Change(
        "part4/releases.py",
        "            stack.pop()\n        elif",
        "            stack.append(entry['release'])\n        elif",
        "rolling_back_twice_goes_back_twice",
    ),
    Change(
        "part4/releases.py",
        '"\\n" + json.dumps({"event": event, "release": name})',
        'json.dumps({"event": event, "release": name}) + "\\n"',
        "half_a_line_of_the_history_costs_nothing_else",
    ),
    Change(
        "part4/router.py",
        "int.from_bytes(hashlib.sha256(customer.encode()).digest()[:8]) / 2**64",
        "hash(customer) % 1000 / 1000",
        "a_customer_is_always_answered_by_the_same_release",
    ),
    Change(
        "part5/models.py",
        'model_config = ConfigDict(extra="forbid")\n\n    tag: Tag\n',
        "tag: Tag\n",
        "a_field_that_is_not_known_is_refused",
    ),
    Change(
        "part5/store.py",
        "Flower(**flower.model_dump() | changes)",
        "flower.model_copy(update=changes)",
        "a_corrected_flower_is_still_a_flower",
    ),
    Change(
        "part5/store.py",
        "id=next(self._numbers)",
        "id=len(self._flowers) + 1",
        "a_number_is_never_given_again",
    ),
    Change(
        "part6/champion.py",
        "            load(incomplete)\n",
        "",
        "a_broken_model_does_not_take_the_place_of_the_champion",
    ),
    Change(
        "part6/champion.py",
        "link.symlink_to(version)",
        "link.symlink_to(models / version)",
        "download_brings_the_version_that_the_alias_names",
    ),
    Change(
        "part6/app.py",
        "champion = serving.ready()\n",
        "champion = load(folder)\n",
        "the_model_is_loaded_once_and_not_for_each_request",
    ),
    Change(
        "part7/messages.py",
        "except (ValueError, RecursionError)",
        "except ValueError",
        "what_is_no_row_is_refused_with_a_reason",
    ),
    Change(
        "part7/consumer.py",
        "        try:\n            rows, dead = write(",
        "        consumer.commit(asynchronous=False)\n        try:\n"
        "            rows, dead = write(",
        "kill_9_before_the_rows_are_written_loses_none",
    ),
    Change(
        "part7/consumer.py",
        "%s, %s) ON CONFLICT DO NOTHING",
        "%s, %s)",
        "a_message_that_comes_twice_is_written_once",
    ),
    Change(
        "part8/worker.py",
        "    with connection, connection.cursor(",
        "    connection.autocommit = True\n    with connection.cursor(",
        "a_worker_killed_while_it_writes_doubles_no_row",
    ),
    Change(
        "part8/answers.py",
        "response.status_code == 422",
        "400 <= response.status_code < 500",
        "what_is_no_answer_blames_no_row",
    ),
    Change(
        "part8/dashboard.json",
        "UNION ALL",
        "UNION ALL SELECT now(), 'waiting', count(*) FROM waiting UNION ALL",
        "the_panel_counts_answers_by_minute_and_class",
    ),
    Change(
        "part9/measures.py",
        "stability_index(*counts) - by_chance(*counts)",
        "stability_index(*counts)",
        "a_small_sample_alone_is_no_drift",
    ),
    Change(
        "part9/measures.py",
        'labels.sort_values("told_on", kind="stable")',
        "labels",
        "a_correction_replaces_the_label",
    ),
    Change(
        "part9/retraining.py",
        "candidate = fit(older)",
        "candidate = fit(rows)",
        "the_candidate_has_not_seen_the_rows_it_is_compared_on",
    ),
]
VARIANTS = [
    Change(
        "part1/migrate.py",
        'VALUES (%s)"',
        'VALUES (%s) ON CONFLICT DO NOTHING"',
        "a_migration_that_fails_leaves_nothing_behind",
    ),
    Change(
        "part3/registry.py",
        'f"Version {version} has {measured:.4f}, its run recorded {recorded:.4f}"',
        '"another model"',
        "a_model_that_is_not_what_its_run_measured_gets_no_alias",
    ),
    Change(
        "part3/load_model_from_registry.py",
        "pd.read_csv(path)).tolist()",
        "__import__('data').read_csv(path)).tolist()",
        "the_programs_save_and_load",
    ),
    Change(
        "part3/load_model_from_registry.py",
        "(MlflowException, OSError)",
        "(MlflowException, OSError, ValueError)",
        "the_programs_save_and_load",
    ),
    Change(
        "part4/releases.py",
        'f"Release {name} was changed after it was published"',
        '"changed"',
        "a_release_is_named_by_its_content_and_never_changes",
    ),
    Change(
        "part4/router.py",
        "    requests = sorted(",
        "    outbox.mkdir(parents=True, exist_ok=True)\n    requests = sorted(",
        "an_event_is_not_lost_when_answering_fails",
    ),
    Change(
        "part4/ci.yml",
        "run: pytest test_candidate.py",
        "run: python -m pytest -q test_candidate.py",
        "the_workflow_runs_tests_and_gate",
    ),
]

Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(request: pytest.FixtureRequest, embedded_server: DatabaseServer) -> Check:
    """Runs a part's checks with Korean hints, all or those of changes that are made first."""

    def run(number: int, work: Path, *changes: Change) -> tuple[int, str]:
        for path, ours, theirs, _ in changes:
            file = work / path.partition("/")[2]
            whole = file.read_text("utf-8")
            assert ours in whole
            file.write_text(whole.replace(ours, theirs), "utf-8")
        if number in (3, 6):
            request.getfixturevalue("mlflow_for_checks")
        command = ["course.part", "check", str(number), "--work", str(work)]
        if changes:
            command += ["-k", " or ".join(f"test_{one.check}" for one in changes)]
        # Not where a session of this process has logged to.
        kept = {name: one for name, one in os.environ.items() if not name.startswith("MLFLOW_")}
        environment = {**kept, "HINTS": "ko"}
        finished = fork(PROJECT, environment, *command, "--server", embedded_server.url)
        return finished.code, finished.text

    return run


def solution(folder: Path, number: int) -> Path:
    lay(folder / "work", part(number), solved=True)
    return folder / "work"


@PARTS
def test_the_solution_passes_its_checks(number, check, tmp_path):
    work = solution(tmp_path, number)

    status, output = check(number, work)

    assert status == 0, output
    assert "✗" not in output

    if variants := [one for one in VARIANTS if one.number == number]:
        status, output = check(number, work, *variants)
        assert status == 0, output


@PARTS
def test_the_starter_fails_all_checks_with_hints(number, check, tmp_path):
    lay(tmp_path / "work", part(number))

    status, output = check(number, tmp_path / "work")

    assert status == 1, output
    assert "✓" not in output
    assert "Traceback" not in output
    assert re.search(r"✗ .+\n    .*[가-힣]", output), output


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda one: f"{one.path[:5]}-{one.check}")
def test_a_typical_mistake_is_noticed(mistake, check, tmp_path):
    status, output = check(mistake.number, solution(tmp_path, mistake.number), mistake)

    assert status == 1, output
    title = mistake.check.replace("_", " ")
    assert re.search(rf"✗ {title}.*\n    .*[가-힣]", output), output


@PARTS
@pytest.mark.end_to_end
def test_the_commands_of_the_readme_show_what_it_says(number, project):
    """In a fresh project: "Meet ours" in a new terminal there, all before it in work/partN."""
    ports = {named: free_port() for named in PORTS.get(number, [8000])}
    if 8000 in ports:
        project.variables["MLOPS_PORT"] = str(ports[8000])
    for name in ("scripts", "course"):
        (project.folder / name).symlink_to(PROJECT / name)
    work = project.folder / f"work/part{number}"
    lay(work, part(number), solved=True)
    page = (part(number) / "README.md").read_text("utf-8")
    theirs, heading, ours = page.partition("\n## Meet ours\n")
    assert heading
    try:
        Terminal(work, project, ports).run_page(theirs)
        Terminal(project.folder, project, ports).run_page(ours)
    finally:
        # It runs in the background, and must end even where something fails.
        if (work / "broker.py").exists():
            subprocess.run([sys.executable, "broker.py", "stop"], cwd=work, check=False)
