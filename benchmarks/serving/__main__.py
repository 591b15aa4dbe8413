"""Our API against other servers on the same models, with its prediction log, one worker each.

All servers are loaded in turn, round by round; their rates are compared.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from statistics import median
from typing import NamedTuple

from benchmarks.common import Checkout, Server, checkouts, interleave, parser, ratio
from benchmarks.serving.checks import CHECKS
from benchmarks.serving.servers import CONTRACTS, KINDS, ROWS, Model, forget_logged, load, start

# A database takes rows in more slowly than large bodies are answered: after so many rows a load
# of ours ends early, so that nobody waits for minutes until they are in the table.
MAX_LOGGED_ROWS = 1_000_000

# How many times the requests a second of another server ours has to answer, by contract and number
# of rows in a body.
GATES = {
    ("iris", "1"): {"noop": 0.55, "mlflow": 55.0, "mlserver": 15.0},
    ("iris", "10000"): {"mlflow": 7.0, "mlserver": 4.0},
    ("subscriptions", "1"): {"noop": 0.5, "mlflow": 55.0, "mlserver": 15.0},
    ("subscriptions", "10000"): {"mlflow": 7.0, "mlserver": 4.0},
}


class Load(NamedTuple):
    """What was found in one round."""

    rate: float
    errors: int


# By contract, number of rows in a body, and server.
Loads = dict[tuple[str, str, str], list[Load]]


def compare(side: Checkout, contract: str, names: Sequence[str], options: Namespace) -> Loads:
    """Start the servers and measure them in turn."""
    model, servers = Model(side, contract), {}
    side.sql("TRUNCATE predictions CASCADE")
    with ExitStack() as stack:
        for name in names:
            try:
                server = stack.enter_context(start(name, model))
                for count in (1, ROWS):
                    server.wait_until_answering(KINDS[name].path, KINDS[name].body(model, count))
                servers[name] = server
            except OSError as error:
                if name == "ours":
                    raise
                print(f"left out: {name}: {error}", flush=True)
        if "ours" in servers:
            forget_logged(side, 1 + ROWS)
        ways = {
            (contract, str(count), name): partial(measure, name, one, model, count, options.seconds)
            for count, (name, one) in product((1, ROWS), servers.items())
        }
        return interleave(options.rounds, ways, lambda load: f"{load.rate:,.0f}/s")


def measure(name: str, server: Server, model: Model, count: int, seconds: float) -> Load:
    """Load a server for some seconds."""
    most = MAX_LOGGED_ROWS // count if name == "ours" else sys.maxsize
    body = KINDS[name].body(model, count)
    found = load(server.address + KINDS[name].path, body, seconds, most)
    if name == "ours":
        forget_logged(model.side, found["requests"] * count)
    return Load(found["requests"] / found["seconds"], found["errors"])


def judge(loads: Loads, names: Sequence[str]) -> bool:
    """Print the medians of the rounds, and the gates of the servers that were asked for.

    Returns:
        Whether all are reached; one that could not be measured is missed, too.
    """
    for way, found in loads.items():
        rate, errors = median(one.rate for one in found), sum(one.errors for one in found)
        print(f"{', '.join(way):<32}{rate:12,.1f}/s, {errors} errors")
    verdicts = []
    for case, gates in GATES.items():
        ours = loads.get((*case, "ours"), [])
        for name in gates.keys() & set(names) if ours else ():
            theirs = loads.get((*case, name))
            found = ratio(ours, theirs, "rate") if theirs else 0.0
            verdicts.append(found >= gates[name] and not any(one.errors for one in ours))
            verdict = "reached" if verdicts[-1] else "MISSED "
            print(f"{verdict} {', '.join(case)} row(s): {found:.2f} x {name} (of {gates[name]:g})")
    return all(verdicts)


def main() -> int:
    command = parser(__doc__)
    command.add_argument("what", nargs="?", choices=("compare", *CHECKS), default="compare")
    command.add_argument("--seconds", type=float, default=3, help="of each load (default: 3)")
    command.add_argument("--contracts", default=",".join(CONTRACTS), help="default: %(default)s")
    command.add_argument("--only", default=",".join(KINDS), help="default: %(default)s")
    options = command.parse_args()
    contracts, names = options.contracts.split(","), options.only.split(",")
    loads: Loads = {}
    with checkouts(None) as [side]:
        if check := CHECKS.get(options.what):
            verdicts = [check(side, contract, options) for contract in contracts]
            return int(options.check and not all(verdicts))
        for contract in contracts:
            loads |= compare(side, contract, names, options)
    return int(not judge(loads, names) and options.check)


if __name__ == "__main__":
    sys.exit(main())
