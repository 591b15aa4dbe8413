"""`kedro run --pipeline data_ingestion` against the imports that it cannot do without."""

import sys
from functools import partial
from statistics import median

from benchmarks.common import Run, checkouts, interleave, parser, ratio

IMPORTS = "import kedro.framework.cli, mlflow, pandas, sqlalchemy"
LIMIT = 1.5


def main() -> int:
    options = parser(__doc__).parse_args()
    with checkouts(None) as [side]:
        run = partial(side.kedro, "run", "--pipeline", "data_ingestion")
        ways = {("run",): run, ("imports",): partial(side.run, side.python, "-c", IMPORTS)}
        found = interleave(options.rounds, ways, lambda run: f"{run.seconds:.2f} s")
    run, imports = found.values()
    for what in Run._fields[:2]:
        middle = median(getattr(one, what) for one in run)
        print(f"{what:<10}{middle:6.2f} s, {ratio(run, imports, what):.2f} x the imports")
    return int(options.check and ratio(run, imports, "seconds") > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
