"""Ours alone: its memory, its answers to wrong bodies, how soon it answers.

Each check prints what it has found and tells whether that will do.
"""

import gzip
import http.client
import json
import random
import time
from argparse import Namespace
from collections import Counter
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from benchmarks.common import Checkout, interleave
from benchmarks.serving.servers import Model, forget_logged, load

MAX_MIB = 200
MAX_GROWTH = 0.03
MAX_SECONDS = 1.0
RIGHT = {*range(200, 500), 503}

TYPES = ("application/json",) * 9 + ("application/json; charset=utf-16", "text/csv", ";", "\xff")
KEYS = ("columns", "data", "params", "", "\ud800", "한글", "id", "name", "datatype", "__proto__")
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "5.1", "nan", "x" * 300, "\ud800", "한글", "2026-02-30", [], {}, [1]),
    *(-1, 0, 5.5, 1e300, 10**400, 2**63, 2**64, 1e-320, float("nan"), float("-inf"), {"a": [None]}),
)
DAMAGES = (b"", b"[" * 5_000, b"1e999", b'"a":1,', b"\x00", b"\xff", b"}", b"\xef\xbb\xbf")


def memory(side: Checkout, contract: str, options: Namespace) -> bool:
    """Resident memory after each tenth of a million requests."""
    body = Model(side, contract).rows[0]
    side.sql("TRUNCATE predictions CASCADE")
    step, readings = 100_000, []
    with side.serve(contract) as server:
        server.wait_until_answering("/health/ready")
        for number in range(1, 11):
            sent = load(f"{server.address}/predict", body, 600, step)["requests"]
            forget_logged(side, sent)
            readings.append(psutil.Process(server.process.pid).memory_info().rss / 2**20)
            print(f"{contract}: {number * step:11,} requests  {readings[-1]:7.1f} MiB", flush=True)
    growth = median(readings[5:]) / median(readings[:5]) - 1
    print(f"{contract}: {growth:+.1%}; at most {MAX_GROWTH:.0%} and {MAX_MIB} MiB are allowed")
    return growth <= MAX_GROWTH and max(readings) <= MAX_MIB


def first_answer(side: Checkout, contract: str, options: Namespace) -> bool:
    """From the start of the process to the first prediction: no database, a release it knows."""
    row = Model(side, contract).rows[0]

    def measure() -> float:
        alone = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
        # Else a later server would ship what was answered here.
        with (
            TemporaryDirectory() as spool,
            side.serve(contract, MLOPS_SPOOL=spool, **alone) as server,
        ):
            server.wait_until_answering("/predict", row, rest=0.01)
            return time.perf_counter() - server.begun

    found = interleave(options.rounds, {(contract, "first answer"): measure}, "{:.2f} s".format)
    seconds = median(found[contract, "first answer"])
    print(f"{contract}: first answer after {seconds:.2f} s (at most {MAX_SECONDS} s)")
    return seconds <= MAX_SECONDS


def fuzz(side: Checkout, contract: str, options: Namespace) -> bool:
    """Wrong bodies to all routes that predict: whatever comes, it is answered, and not by 5xx."""
    model, chance = Model(side, contract), random.Random(1)
    statuses: Counter[tuple[str, int]] = Counter()
    with side.serve(contract) as server:
        server.wait_until_answering("/health/ready")
        connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=60)
        for _ in range(100_000):
            path, body, headers = wrong_request(chance, model)
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 599  # No answer at all.
            statuses[path, status] += 1
            if status not in RIGHT:
                print(f"{status}: {path} {headers} {body[:200]!r}")
    for (path, status), count in sorted(statuses.items()):
        print(f"{path:<32}{status}{count:9,}")
    return all(status in RIGHT for _, status in statuses)


def wrong_request(chance: random.Random, model: Model) -> tuple[str, bytes, dict[str, str]]:
    """A path, a body and headers, of which any may be wrong; some are right by chance."""
    row = dict(chance.choice(model.rows))
    for _ in range(chance.randrange(3)):
        row[chance.choice((*row, *KEYS))] = chance.choice(VALUES)
    columns, values = {name: [value] for name, value in row.items()}, list(row.values())
    split = {"columns": list(row), "data": [values]}
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, len(values)], "data": values}
    forms = {
        "/predict": (row, [row], {"columns": columns}, values),
        "/invocations": ({"inputs": columns}, {"dataframe_split": split}, {"instances": [row]}),
        f"/v2/models/{model.contract}/infer": ({"inputs": [tensor]}, {"inputs": [row]}, tensor),
    }
    path = chance.choice(list(forms))
    text = json.dumps(chance.choice(forms[path]), ensure_ascii=chance.random() < 0.5)
    body = text.encode(errors="surrogatepass")
    if chance.random() < 0.2:
        at = chance.randrange(len(body))
        body = body[:at] + chance.choice(DAMAGES) + body[at + chance.choice((0, 1, len(body))) :]
    headers = {"content-type": chance.choice(TYPES)}
    if chance.random() < 0.1:
        headers["content-encoding"] = chance.choice(("gzip", "deflate", "br", ""))
        body = chance.choice((body, gzip.compress(body)))
    if chance.random() < 0.1:
        headers["inference-header-content-length"] = chance.choice(("0", "-1", "x", "9"))
    return path, body, headers


CHECKS = {check.__name__: check for check in (memory, fuzz, first_answer)}
