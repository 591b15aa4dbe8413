"""All servers in turn, round by round: rates, latencies, processor time, ratios and gates."""

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
from benchmarks.common import CACHE, Checkout, Server, interleave, ratio
from benchmarks.serving.servers import KINDS, OURS, ROWS, Model, start

CLIENT = str(Path(__file__).resolve().parent / "client.py")
CONNECTIONS = 8

# A database takes rows in more slowly than large bodies are answered: after so many rows a load
# of ours ends early, so that nobody waits for minutes until they are in the table.
MOST_LOGGED_ROWS = 1_000_000

# How many times the requests a second of another server ours has to answer, by contract and number
# of rows in a body.
GATES = {
    ("iris", "1"): {"noop": 0.55, "mlflow": 55.0, "mlserver": 15.0},
    ("iris", "10000"): {"mlflow": 7.0, "mlserver": 4.0},
    ("subscriptions", "1"): {"noop": 0.5, "mlflow": 55.0, "mlserver": 15.0},
    ("subscriptions", "10000"): {"mlflow": 7.0, "mlserver": 4.0},
}


class Load(NamedTuple):
    """What was found in one round; the processor time is the server's for a request."""

    rate: float
    median_ms: float
    p99_ms: float
    processor_us: float
    errors: int


# By contract, number of rows in a body, and server.
Loads = dict[tuple[str, str, str], list[Load]]


def compare(
    sides: Sequence[Checkout], contract: str, names: Sequence[str], options: Namespace
) -> Loads:
    """Start the servers, look whether they answer rightly, and measure them in turn."""
    models = {side.name: Model(side, contract) for side in sides}
    ways = {}
    with ExitStack() as stack:
        for name in names:
            model = models["other" if name == "other" else "this"]
            try:
                server = stack.enter_context(start(name, model))
                for count in (1, ROWS):
                    check(name, server, model, count)
                    way = partial(measure, name, server, model, count, options.seconds)
                    ways[contract, str(count), name] = way
            except (OSError, ValueError) as error:
                if name in OURS:
                    raise
                print(f"left out: {name}: {error}", flush=True)
        # So that all servers answer the same bodies within seconds.
        ways = dict(sorted(ways.items(), key=lambda way: int(way[0][1])))
        return interleave(options.rounds, ways, lambda load: f"{load.rate:,.0f}/s")


def check(name: str, server: Server, model: Model, count: int) -> None:
    """Wait until a server answers as batch scoring or scikit-learn do; raises `ValueError`."""
    kind = KINDS[name]
    if name in OURS:
        model.side.sql("TRUNCATE predictions CASCADE")
    answer = kind.read(server.wait_until_answering(kind.path, kind.body(model, count)))
    if name in OURS:
        forget_logged(model.side, count)
    expected = model.labels if name in OURS else model.answers
    if name != "noop" and answer != expected[:count]:
        raise ValueError(f"{count} rows: the answer {str(answer)[:200]} is wrong")


def measure(name: str, server: Server, model: Model, count: int, seconds: float) -> Load:
    """Load a server for some seconds."""
    used = server.processor_seconds()
    most = MOST_LOGGED_ROWS // count if name in OURS else sys.maxsize
    body = KINDS[name].body(model, count)
    found = load(server.address + KINDS[name].path, body, seconds, most)
    if name in OURS:
        forget_logged(model.side, found["requests"] * count)
    used = server.processor_seconds() - used
    rate, a_request = found["requests"] / found["seconds"], 1e6 / max(1, found["requests"])
    return Load(rate, found["median_ms"], found["p99_ms"], used * a_request, found["errors"])


def load(url: str, body: Any, seconds: float, requests: int) -> dict[str, Any]:
    """Send a body again and again from a process of its own; gives what the client has found."""
    file = CACHE / "body.json"
    file.write_text(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    numbers = (str(CONNECTIONS), str(seconds), str(requests))
    command = [sys.executable, CLIENT, url, str(file), *numbers]
    return dict(json.loads(subprocess.check_output(command)))


def forget_logged(side: Checkout, rows: int) -> None:
    """Wait until the table has every prediction that was answered, once, and empty it."""
    if (found := side.wait_for_rows("predictions", rows)) != rows:
        raise SystemExit(f"{side.name}: {rows} rows were answered, {found} are in the table")
    side.sql("TRUNCATE predictions CASCADE")


def show(loads: Loads) -> None:
    """Print the medians of the rounds, and how many times as good ours is."""
    table = {}
    for (*case, name), found in loads.items():
        ours = loads.get((*case, "ours"))
        table[*case, name] = {
            **{field: median(getattr(one, field) for one in found) for field in Load._fields},
            "ours : it": rates(ours, found) if ours else None,
            "its µs : ours": rates(found, ours, "processor_us") if ours else None,
            "errors": sum(one.errors for one in found),
        }
    print(f"\n{pd.DataFrame(table).T.to_string(float_format='{:,.2f}'.format)}")
    print(f"By contract and rows a body; {CONNECTIONS} connections, rates a second.")


def rates(ones: list[Load], others: list[Load], field: str = "rate") -> float:
    """How many times as much the one has, the median of the rounds."""
    return ratio([getattr(one, field) for one in ones], [getattr(one, field) for one in others])


def judge(loads: Loads, names: Sequence[str]) -> bool:
    """Print the gates of what was asked for; one that could not be measured is missed, too."""
    verdicts = []
    for case, gates in GATES.items():
        ours = loads.get((*case, "ours"), [])
        for name in gates.keys() & set(names) if ours else ():
            others = loads.get((*case, name))
            found = rates(ours, others) if others else 0.0
            verdicts.append(found >= gates[name] and not any(one.errors for one in ours))
            verdict = "reached" if verdicts[-1] else "MISSED "
            print(f"{verdict} {', '.join(case)} row(s): {found:.2f} x {name} (of {gates[name]:g})")
    return all(verdicts)
