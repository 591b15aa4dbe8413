"""Our API against other servers on the same models, with its prediction log, one worker each."""

import sys

from benchmarks.common import checkouts, parser
from benchmarks.serving.checks import CHECKS
from benchmarks.serving.compare import Loads, compare, judge, show
from benchmarks.serving.servers import KINDS, RESPONSES


def main() -> int:
    command = parser(__doc__)
    command.add_argument("what", nargs="?", choices=("compare", *CHECKS), default="compare")
    command.add_argument("--seconds", type=float, default=3, help="of each load (default: 3)")
    command.add_argument("--contracts", default=",".join(RESPONSES), help="default: %(default)s")
    command.add_argument("--only", default=",".join(KINDS), help="default: %(default)s")
    command.add_argument("--requests", type=int, help="of memory (1,000,000) and fuzz (100,000)")
    options = command.parse_args()
    contracts = options.contracts.split(",")
    names = [name for name in options.only.split(",") if options.against or name != "other"]
    loads: Loads = {}
    with checkouts(options.against) as sides:
        if check := CHECKS.get(options.what):
            verdicts = [check(sides[0], contract, options) for contract in contracts]
            return int(options.check and not all(verdicts))
        for contract in contracts:
            loads |= compare(sides, contract, names, options)
    show(loads)
    return int(not judge(loads, names) and options.check)


if __name__ == "__main__":
    sys.exit(main())
