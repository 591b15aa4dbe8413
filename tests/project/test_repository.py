import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests import PROJECT
from tests.expectations import succeed

FORMS = ("bug", "course")
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("workflows", WORKFLOWS),
        ("issue-forms", [PROJECT / f".github/ISSUE_TEMPLATE/{name}.yml" for name in FORMS]),
    ],
)
def test_what_github_reads_fits_its_schema(schema, files):
    check = (sys.executable, "-m", "check_jsonschema", "--builtin-schema")
    succeed(*check, f"vendor.github-{schema}", *files)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_is_there(path):
    jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
    steps = [step for job in jobs for step in job["steps"]]
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert all(job.get("timeout-minutes", 45) <= 45 for job in jobs)
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        run = step.get("run", "")
        assert set(re.findall(r"make ([a-z]+)", run)) <= targets
        if run.startswith(".ci/"):
            assert (PROJECT / run).stat().st_mode & 0o111


def test_the_release_builds_images_that_the_dockerfile_has():
    release = yaml.safe_load((PROJECT / ".github/workflows/release.yml").read_text("utf-8"))
    stages = re.findall(r"AS (\S+)", (PROJECT / "Dockerfile").read_text("utf-8"))
    assert set(release["jobs"]["images"]["strategy"]["matrix"]["target"]) <= set(stages)


def test_git_leaves_the_empty_folders_alone_that_postgres_needs(tmp_path):
    (tmp_path / "data/postgres/pgdata/pg_notify").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    shutil.copy(PROJECT / ".gitignore", tmp_path)

    cleaned = subprocess.check_output(["git", "clean", "-nd"], cwd=tmp_path, text=True)

    assert cleaned == "Would remove .gitignore\n"
