"""Makes wrong requests for the predict routes, from a seed."""

import json
import random
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
INFER = "/v2/models/iris/infer"

_VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "5.1", "nan", "x" * 300, "\ud800", "한글", [], {}, [1], {"a": 1}),
    *(-1, 0, 11, 5, 5.5, 1e300, -1e300, 10**400, -(10**30), 2**63, 2**64, 1e-320),
    *(float("nan"), float("inf"), float("-inf"), [[1, 2], [3]], [None], [["a"]]),
)
_KEYS = (
    *NAMES,
    "columns",
    "data",
    "index",
    "params",
    "",
    "\ud800",
    "한글",
    "id",
    "name",
    "__proto__",
)
_TYPES = (
    *(None, "application/json", "application/json; charset=utf-8", "text/csv", "text/plain"),
    *("application/json; charset=utf-16", "application/octet-stream", "a/b; charset=", ";", "\xff"),
    "application/x-www-form-urlencoded",
)
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class BadRequest(NamedTuple):
    """A request that may be wrong in any way; some are right by chance."""

    path: str
    headers: dict[str, str]
    body: bytes


def bad_requests(seed: int, count: int) -> Iterator[BadRequest]:
    """So many requests, the same ones for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        kind = chance.randrange(3)
        path = ("/predict", "/invocations", INFER)[kind]
        document = (_predict, _invocation, _inference)[kind](chance)
        headers = _headers(chance, path)
        body = _spoil(chance, _encode(chance, document), headers)
        yield BadRequest(path, headers, body)


def _value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.random()
    if kind < 0.7 or depth > 3:
        return chance.choice(_VALUES)
    if kind < 0.85:
        return [_value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(_KEYS): _value(chance, depth + 1) for _ in range(chance.randrange(4))}


def _or_wrong(chance: random.Random, right: Any, share: float = 0.15) -> Any:
    return _value(chance) if chance.random() < share else right


def _row(chance: random.Random) -> Any:
    row = {name: _or_wrong(chance, round(chance.uniform(0, 10), 1), 0.1) for name in NAMES}
    if chance.random() < 0.2:
        row.pop(chance.choice(NAMES))
    if chance.random() < 0.2:
        row[chance.choice(_KEYS)] = _value(chance)
    return _or_wrong(chance, row, 0.05)


def _columns(chance: random.Random) -> Any:
    length = chance.randrange(4)
    columns = {
        name: _or_wrong(chance, [_or_wrong(chance, 5.0, 0.1) for _ in range(length)], 0.1)
        for name in NAMES
    }
    if chance.random() < 0.2:
        columns[chance.choice(_KEYS)] = _value(chance)
    return _or_wrong(chance, columns, 0.05)


def _rows(chance: random.Random) -> Any:
    return [_row(chance) for _ in range(chance.randrange(4))]


def _predict(chance: random.Random) -> Any:
    return chance.choice((_row, _rows, lambda one: {"columns": _columns(one)}, _value))(chance)


def _invocation(chance: random.Random) -> Any:
    split = {
        "columns": _or_wrong(chance, list(NAMES)),
        "data": _or_wrong(
            chance,
            [[_or_wrong(chance, 5.0, 0.05) for _ in range(4)] for _ in range(chance.randrange(3))],
        ),
    }
    if chance.random() < 0.2:
        split[chance.choice(_KEYS)] = _value(chance)
    form = chance.choice(_FORMS)
    right = split if form == "dataframe_split" else chance.choice((_rows, _columns))(chance)
    document = {form: _or_wrong(chance, right)}
    if chance.random() < 0.1:
        document[chance.choice((*_FORMS, *_KEYS))] = _value(chance)
    return _or_wrong(chance, document, 0.05)


def _inference(chance: random.Random) -> Any:
    count = chance.choice((0, 1, 1, 2, 2))
    tensor = {
        "name": _or_wrong(chance, "features"),
        "shape": _or_wrong(chance, [count, 4]),
        "datatype": _or_wrong(chance, chance.choice(("FP64", "FP64", "FP32", "INT32", "BYTES"))),
        "data": _or_wrong(chance, [5.0] * (4 * count)),
    }
    if chance.random() < 0.2:
        size = chance.choice((0, 8, 32, -1, 2**70, "8", None))
        tensor["parameters"] = _or_wrong(chance, {"binary_data_size": size})
    if chance.random() < 0.2:
        tensor.pop(chance.choice(list(tensor)))
    document = {"inputs": _or_wrong(chance, [tensor] * chance.choice((0, 1, 1, 1, 2)), 0.1)}
    if chance.random() < 0.3:
        document["outputs"] = _or_wrong(chance, [{"name": "label", "parameters": _value(chance)}])
    if chance.random() < 0.3:
        document[chance.choice(("id", "parameters"))] = _value(chance)
    return _or_wrong(chance, document, 0.05)


def _encode(chance: random.Random, document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.1:
        at = chance.randrange(len(text) + 1)
        text = (
            text[:at] + chance.choice(('"petal_width": 1,', "{", "]", "\x00", "1e999")) + text[at:]
        )
    encoding = chance.choice(("utf-8",) * 12 + ("utf-16", "utf-8-sig"))
    return text.encode(encoding, "surrogatepass")


def _headers(chance: random.Random, path: str) -> dict[str, str]:
    declared = "application/json" if chance.random() < 0.7 else chance.choice(_TYPES)
    headers = {} if declared is None else {"content-type": declared}
    if chance.random() < 0.1:
        headers["content-encoding"] = chance.choice(("gzip", "identity", ""))
    if path == INFER and chance.random() < 0.2:
        length = chance.choice(("0", "1", "-1", "99999", "x", "", str(chance.randrange(200))))
        headers["inference-header-content-length"] = length
    return headers


def _spoil(chance: random.Random, body: bytes, headers: dict[str, str]) -> bytes:
    kind = chance.random()
    if kind < 0.08:
        return body[: chance.randrange(len(body) + 1)]
    if kind < 0.14:
        return chance.randbytes(chance.randrange(64))
    if kind < 0.17:
        return chance.choice((b"[", b'{"a":', b'[{"columns":')) * chance.randrange(1, 5000)
    if kind < 0.22 and body:
        at = chance.randrange(len(body))
        return body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :]
    if kind < 0.25:
        return body + struct.pack("<4d", 1, float("nan"), 1e300, -1)
    return body
