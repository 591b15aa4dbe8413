"""Asks the API, and again what may be asked again: ``python client.py '{"sepal_length": ...}'``."""

import json
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import httpx

# Answers that another attempt may change: too many requests, and a server that is not there now.
PASSING = {429, 502, 503, 504}
LOST = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)


def pauses() -> Iterator[float]:
    """Seconds to wait: twice as long each time up to 3.2, and cut at random."""
    for attempt in count():
        yield 0.1 * 2 ** min(attempt, 5) * random.uniform(0.5, 1)


def may_be_retried(error: httpx.HTTPError) -> bool:
    """Whether the same request may succeed later.

    Only right for a request that changes nothing: of one that is lost, nobody knows how far it got.
    """
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in PASSING
    return isinstance(error, LOST)


def ask(url: str, flower: Mapping[str, Any], patience: float = 30) -> dict[str, Any]:
    """Have a flower predicted, and wait at most ``patience`` seconds between attempts in all.

    Raises:
        httpx.HTTPError: The last error, where it cannot pass or the patience is over.
    """
    deadline = time.monotonic() + patience
    waits = pauses()
    while True:
        try:
            response = httpx.post(f"{url}/predict", json=flower, timeout=5).raise_for_status()
        except httpx.HTTPError as error:
            pause = next(waits)
            if not may_be_retried(error) or time.monotonic() + pause > deadline:
                raise
            time.sleep(pause)
        else:
            answer: dict[str, Any] = response.json()
            return answer


def main(arguments: list[str]) -> None:
    """Ask for one flower, given as JSON."""
    url = os.environ.get("API_URL", "http://localhost:8000")
    try:
        answer = ask(url, json.loads(arguments[0]))
    except httpx.HTTPStatusError as error:
        raise SystemExit(f"{error.response.status_code}: {error.response.text}") from None
    except httpx.HTTPError as error:
        raise SystemExit(f"{url}: {error}") from None
    print(f"{answer['species']}, says version {answer['version']}.")


if __name__ == "__main__":
    main(sys.argv[1:])
