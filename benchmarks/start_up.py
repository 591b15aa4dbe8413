"""`kedro run --pipeline data_ingestion` against the imports that it cannot do without."""

import sys
from functools import partial
from statistics import median

from benchmarks.common import checkouts, interleave, parser, ratio

IMPORTS = "import kedro.framework.cli, mlflow, pandas, sqlalchemy"
LIMIT = 1.5


def main() -> int:
    options = parser(__doc__).parse_args()
    ways = {}
    with checkouts(options.against) as sides:
        for side in sides:
            ways["imports", side.name] = partial(side.run, side.python, "-c", IMPORTS)
            ways["run", side.name] = partial(side.kedro, "run", "--pipeline", "data_ingestion")
        found = interleave(options.rounds, ways, lambda run: f"{run.seconds:.2f} s")
    times = {way: [run.seconds for run in runs] for way, runs in found.items()}
    used = {way: [run.processor for run in runs] for way, runs in found.items()}
    for side in (side.name for side in sides):
        for what, found_times in (("seconds", times), ("processor seconds", used)):
            run, imports = found_times["run", side], found_times["imports", side]
            print(f"{side:<6}{median(run):6.2f} {what}, {ratio(run, imports):.2f} x the imports")
    return int(options.check and ratio(times["run", "this"], times["imports", "this"]) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
