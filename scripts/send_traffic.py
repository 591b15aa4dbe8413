"""Asks a running server to predict known rows, and tells it their true labels afterwards.

The rows are drawn from the server's own `/observations`, so it works for any contract. `--tilt`
draws other rows of the same world, `--swap` exchanges two classes in the labels as a changed world
would: what monitoring is there to notice. A server with API keys is given that in MLOPS_API_KEY.
"""

import argparse
import os
import sys
from math import exp
from random import Random
from statistics import fmean, pstdev
from typing import Any

import httpx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tilt", metavar="FEATURE=POWER", help="draw its large values more often")
    parser.add_argument("--swap", metavar="CLASS,CLASS", help="exchange two classes of the labels")
    parser.add_argument("--no-labels", action="store_true", help="tell no true labels")
    address = f"http://localhost:{os.environ.get('MLOPS_PORT', '8000')}"
    parser.add_argument("--url", default=address, help="where the server is; default: %(default)s")
    options = parser.parse_args()
    key = os.environ.get("MLOPS_API_KEY")
    headers = {"X-API-Key": key} if key else {}
    try:
        with httpx.Client(base_url=options.url, headers=headers, timeout=30) as server:
            predicted, told = send(options, server)
    except httpx.TransportError as error:
        sys.exit(f"No server answers at {options.url} ({error}): start one with `kedro serve`.")
    except httpx.HTTPStatusError as error:
        sys.exit(f"{error}\n{error.response.text[:500]}")
    print(f"{predicted} rows were predicted, {told} true labels told.")


def send(options: argparse.Namespace, server: httpx.Client) -> tuple[int, int]:
    """Predict a random sample of the known rows; gives how many rows and labels were sent."""
    contract = ask(server, "GET", "/model")["contract"]
    target = contract["target"]
    labels = {one["value"]: one["label"] for one in target.get("classes") or []}
    if options.swap:
        one, _, other = options.swap.partition(",")
        if not {one, other} <= set(labels.values()):
            sys.exit(f"--swap: expected two of {', '.join(labels.values())} (found {options.swap})")
        exchanged = {one: other, other: one}
        labels = {value: exchanged.get(label, label) for value, label in labels.items()}
    known = ask(server, "GET", "/observations?limit=1000")["observations"]
    if not known:
        sys.exit("There are no observations to draw from: run `kedro run` first.")
    weights = None
    if options.tilt:
        name, _, power = options.tilt.rpartition("=")
        present = [row[name] for row in known if isinstance(row.get(name), int | float)]
        if not present:
            sys.exit(f"--tilt: expected FEATURE=POWER, of a number's name (found {options.tilt})")
        # A row is e^power times as likely as one whose value is a standard deviation less.
        usual, unit = fmean(present), pstdev(present) or 1.0
        values = [usual if row[name] is None else row[name] for row in known]
        weights = [exp(float(power) * (value - usual) / unit) for value in values]
    drawn = Random(options.seed).choices(known, weights, k=options.rows)
    rows = [{name: row[name] for name in contract["features"]} for row in drawn]
    answers = ask(server, "POST", "/predict", rows)
    told = [] if options.no_labels else list(zip(drawn, answers, strict=True))
    for row, answer in told:
        label = labels.get(row[target["column"]], row[target["column"]])
        body = {"prediction_id": answer["prediction_id"], "label": label}
        ask(server, "POST", "/feedback", body)
    return len(drawn), len(told)


def ask(server: httpx.Client, method: str, path: str, body: Any = None) -> Any:
    return server.request(method, path, json=body).raise_for_status().json()


if __name__ == "__main__":
    main()
