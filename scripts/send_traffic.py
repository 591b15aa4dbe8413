"""Asks a running server to predict known rows, and tells it their true labels afterwards.

    python scripts/send_traffic.py [--rows 300] [--seed 1] [--shift petal_length=1.5]
        [--swap versicolor,virginica] [--no-labels] [--url http://localhost:8000]

The rows are drawn from the server's own `/observations`, so it works for any contract. `--shift`
changes a feature as a wrongly calibrated instrument would, `--swap` exchanges two classes in the
labels as a changed world would: what monitoring is there to notice.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

AT_ONCE = 100
NUMBERS = ("float", "integer", "decimal")


def main() -> None:
    options = read_options()
    try:
        model = ask(options.url, "/model")["contract"]
        known = list(observations(options.url))
        if not known:
            sys.exit("There are no observations to draw from: run `kedro run` first.")
        sent, told = send(options, model, known)
    except HTTPError as error:
        sys.exit(f"{error.url} answered {error.code}: {error.read().decode()[:500]}")
    except (URLError, ConnectionError) as error:
        sys.exit(f"No server answers at {options.url} ({error}): start one with `kedro serve`.")
    print(f"{sent} rows were predicted, {told} true labels told.")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shift", metavar="FEATURE=AMOUNT", help="add this to a feature")
    parser.add_argument("--swap", metavar="CLASS,CLASS", help="exchange two classes of the labels")
    parser.add_argument("--no-labels", action="store_true", help="tell no true labels")
    address = f"http://localhost:{os.environ.get('MLOPS_PORT', '8000')}"
    parser.add_argument("--url", default=address, help="where the server is; default: %(default)s")
    options = parser.parse_args()
    options.url = options.url.rstrip("/")
    if options.rows < 1:
        parser.error(f"--rows: expected at least 1 (found {options.rows})")
    return options


def observations(url: str) -> Iterator[dict[str, Any]]:
    following = "/observations?limit=1000"
    while following:
        page = ask(url, following)
        yield from page["observations"]
        following = page["next"]


def send(
    options: argparse.Namespace, model: dict[str, Any], known: list[dict[str, Any]]
) -> tuple[int, int]:
    """Predict a random sample of the known rows; gives how many rows and labels were sent."""
    target = model["target"]["column"]
    names = {one["value"]: one["label"] for one in model["target"].get("classes") or []}
    swapped = read_swap(options.swap, list(names.values()))
    numbers = [name for name, one in model["features"].items() if one["type"] in NUMBERS]
    shift = read_shift(options.shift, numbers)
    drawn = Random(options.seed).choices(known, k=options.rows)
    told = 0
    for begin in range(0, len(drawn), AT_ONCE):
        part = drawn[begin : begin + AT_ONCE]
        rows = [{name: row[name] for name in model["features"]} for row in part]
        for row, (name, amount) in product(rows, shift.items()):
            if row[name] is not None:
                row[name] += amount
        answers = ask(options.url, "/predict", rows)
        for row, answer in zip(part, answers, strict=True):
            if options.no_labels:
                continue
            label = names.get(row[target], row[target])
            body = {
                "prediction_id": answer["prediction_id"],
                "label": swapped.get(label, label),
            }
            ask(options.url, "/feedback", body)
            told += 1
    return len(drawn), told


def read_swap(text: str | None, classes: list[Any]) -> dict[Any, Any]:
    if text is None:
        return {}
    pair = text.split(",")
    match pair:
        case [one, other] if {one, other} <= set(classes):
            return {one: other, other: one}
    allowed = ", ".join(map(str, classes)) or "the classes, which a regression has not"
    sys.exit(f"--swap: expected two of {allowed} (found {text!r})")


def read_shift(text: str | None, features: list[str]) -> dict[str, float]:
    if text is None:
        return {}
    name, _, amount = text.partition("=")
    try:
        if name in features:
            return {name: float(amount)}
    except ValueError:
        pass
    sys.exit(f"--shift: expected NAME=NUMBER with one of {', '.join(features)} (found {text!r})")


def ask(url: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url + path, data=data, headers={"content-type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
