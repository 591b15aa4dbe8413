"""schemathesis asks a whole server everything that its OpenAPI document describes."""

import os
import subprocess
import sys
from pathlib import Path

from mlops_for_mle.database.schema import ensure_observations
from tests.releases import IRIS_CONTRACT
from tests.serving.conftest import make_key

# Requests an operation, beside those that the document itself suggests.
EXAMPLES = os.environ.get("MLOPS_FUZZ_EXAMPLES", "5")

# A schema cannot say that lists have one length or that a row exists, so valid data may be refused.
# Numbers as text and unknown columns are taken by /invocations because MLflow takes them.
CONFIGURATION = """
[checks]
positive_data_acceptance.enabled = false
ensure_resource_availability.enabled = false

[[operations]]
include-path = "/invocations"
checks.negative_data_rejection.enabled = false
"""


def test_the_server_answers_as_its_openapi_document_says_and_never_fails(
    start_server, settings, database, deploy, tmp_path: Path, iris, iris_second
):
    ensure_observations(database.url, IRIS_CONTRACT)
    key = make_key(settings, "admin")
    deploy(iris_second, iris)
    server = start_server(DATABASE_URL=database.url)
    server.headers = key
    server.wait_until_ready()
    folder = tmp_path / "fuzz"
    folder.mkdir()
    (folder / "schemathesis.toml").write_text(CONFIGURATION)

    finished = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("run", f"{server.url}/openapi.json"),
            *("--header", f"Authorization: {key['Authorization']}"),
            *("--phases", "examples,coverage,fuzzing"),
            *("--max-examples", EXAMPLES),
            *("--seed", "1"),
            *("--warnings", "off"),
            "--continue-on-failure",
        ],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
    )

    assert finished.returncode == 0, finished.stdout[-8000:] + finished.stderr
    assert "Tested: " in finished.stdout
    server.end()
    assert '"level":"error"' not in server.output
