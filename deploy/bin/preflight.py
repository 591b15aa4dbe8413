#!/usr/bin/env python
"""Runs before every other container: refuses placeholder secrets and writes the API key's digest.

Reads the secrets from the environment and the folder of the API's volume as its one argument.
"""

import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

SECRETS = (
    "POSTGRES_PASSWORD",
    "MLOPS_DATABASE_PASSWORD",
    "MLFLOW_DATABASE_PASSWORD",
    "MINIO_ROOT_PASSWORD",
    "GRAFANA_ADMIN_PASSWORD",
    "MLOPS_API_KEY",
)
SHORTEST = 16
PLACEHOLDER = re.compile(r"change.?me|password|secret|minio|admin|example", re.IGNORECASE)
# The passwords become parts of URLs and of files that know no quoting.
ALLOWED = re.compile(r"[A-Za-z0-9._~-]+")

KEY_NAME = "stack"


def complaints(environment: Mapping[str, str]) -> list[str]:
    """One sentence for each secret that the stack must not start with; shows no secret."""
    found = []
    is_local = environment.get("MLOPS_LOCAL") == "1"
    for name in SECRETS:
        value = environment.get(name, "")
        if not value:
            found.append(f"{name} is not set.")
        elif not ALLOWED.fullmatch(value):
            found.append(f"{name} has characters other than letters, digits and . _ ~ -")
        elif not is_local and PLACEHOLDER.search(value):
            found.append(f"{name} is a placeholder or a well-known word.")
        elif not is_local and len(value) < SHORTEST:
            found.append(f"{name} has {len(value)} characters, at least {SHORTEST} are needed.")
    return found


def keep_api_key(key: str, path: Path) -> bool:
    """Make the key of the environment valid, and the one that was there before invalid.

    Keys of other names, which people have made, stay.

    Returns:
        Whether the file was changed.
    """
    from mlops_for_mle.serving.keys import ApiKey, KeyDocument, KeyFile, digest

    fingerprint = digest(key.encode()).hex()
    keys = KeyFile(path).read() or ()
    if any(one.name == KEY_NAME and one.sha256 == fingerprint for one in keys):
        return False
    own = ApiKey(
        name=KEY_NAME,
        scopes=("predict", "write"),
        sha256=fingerprint,
        created_at=datetime.now(UTC).replace(microsecond=0),
    )
    document = KeyDocument(keys=(*(one for one in keys if one.name != KEY_NAME), own))
    partial = path.with_name(f".{path.name}.new")
    partial.touch(mode=0o600)
    partial.write_text(document.model_dump_json(indent=2) + "\n", "utf-8")
    partial.replace(path)
    return True


def main() -> int:
    """Check, then prepare.

    Returns:
        The exit status: 2 for secrets that have to be replaced.
    """
    found = complaints(os.environ)
    if found:
        sys.stderr.write("The stack does not start:\n")
        sys.stderr.writelines(f"  {line}\n" for line in found)
        sys.stderr.write(
            "`make up` writes .env with random secrets. For experiments on one machine, "
            "MLOPS_LOCAL=1 allows weak ones.\n"
        )
        return 2
    if len(sys.argv) > 1 and keep_api_key(
        os.environ["MLOPS_API_KEY"], Path(sys.argv[1]) / "api_keys.json"
    ):
        sys.stdout.write(f"The API key {KEY_NAME!r} is the one of MLOPS_API_KEY.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
