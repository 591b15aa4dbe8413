"""`kedro run --pipeline data_ingestion` against the imports that it cannot do without.

    python benchmarks/start_up.py [--rounds 5]

Runs in the project's folder, on its embedded server unless `DATABASE_URL` is set; the server is
kept up meanwhile, and the first round, which fills caches, is not counted.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from mlops_for_mle import database

PROJECT = Path(__file__).parents[1]
IMPORTS = [sys.executable, "-c", "import kedro.framework.cli, mlflow, pandas, sqlalchemy"]
RUN = [sys.executable, "-m", "kedro", "run", "--pipeline", "data_ingestion"]


def seconds(command: list[str]) -> float:
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    begin = time.perf_counter()
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.chdir(PROJECT)
    # This process holds the server's lease, so that no run starts or stops it.
    database.database_url()
    rounds = [(seconds(IMPORTS), seconds(RUN)) for _ in range(options.rounds + 1)][1:]
    imports, run = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(one / other for other, one in rounds)
    print(f"Python {sys.version.split()[0]}, median of {options.rounds} rounds")
    print(f"  imports         {imports:5.2f} s")
    print(f"  data_ingestion  {run:5.2f} s   {ratio:4.2f} x")


if __name__ == "__main__":
    main()
