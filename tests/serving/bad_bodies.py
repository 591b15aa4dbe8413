"""Makes wrong requests for the predict routes, from a seed: right ones, spoilt in any way."""

import json
import random
from collections.abc import Iterator
from typing import Any

INFER = "/v2/models/iris/infer"

_ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
_COLUMNS = {name: [one, 5] for name, one in _ROW.items()}
_TENSOR = {"name": "features", "shape": [1, 4], "datatype": "FP64", "data": [5, 5, 5, 5]}
_BINARY = {"name": "features", "shape": [1, 4], "datatype": "FP64"}
_DOCUMENTS: dict[str, tuple[Any, ...]] = {
    "/predict": (_ROW, [_ROW, _ROW], {"columns": _COLUMNS}),
    "/invocations": (
        {"dataframe_split": {"columns": list(_ROW), "data": [[1, 2, 3, 4], [5, 5, 5, 5]]}},
        *({name: [_ROW, _ROW]} for name in ("dataframe_records", "instances", "inputs")),
        {"inputs": _COLUMNS},
    ),
    INFER: (
        {"inputs": [_TENSOR], "id": "1", "outputs": [{"name": "label"}]},
        {"inputs": [{**_TENSOR, "name": name, "shape": [1], "data": [5]} for name in _ROW]},
        {"inputs": [_BINARY | {"parameters": {"binary_data_size": 32}}]},
    ),
}
_VALUES: tuple[Any, ...] = (
    *(None, True, "", "5.1", "nan", "x" * 300, "\ud800", "한글", [], {}, [1], {"a": 1}, [[1], 2]),
    *(-1, 0, 11, 1e300, 10**400, -(10**30), 2**63, 2**70, 1e-320, float("nan"), float("-inf")),
)
_TEXTS = ('"petal_width": 1,', "{", "]", "\x00", "1e999", '"', "[" * 3000, '{"a":' * 900, "\\u")
_TYPES = (
    *(None, "application/json; charset=utf-8", "text/csv", "text/plain", "application/json; q"),
    *("application/json; charset=utf-16", "application/octet-stream", ";", "\xff"),
)


def bad_requests(seed: int, count: int) -> Iterator[tuple[str, dict[str, bytes], bytes]]:
    """So many paths, headers and bodies, the same ones for the same seed; some are right."""
    chance = random.Random(seed)
    for _ in range(count):
        path = chance.choice(list(_DOCUMENTS))
        document = _spoilt(chance, chance.choice(_DOCUMENTS[path]))
        text = json.dumps(document, ensure_ascii=chance.random() < 0.5)
        if chance.random() < 0.15:
            start, end = sorted(chance.randrange(len(text) + 1) for _ in range(2))
            text = text[:start] + chance.choice(_TEXTS) + text[chance.choice((start, end)) :]
        encoding = chance.choice(("utf-8",) * 12 + ("utf-16", "utf-8-sig"))
        head = text.encode(encoding, "surrogatepass")
        body = head + chance.choice((b"", b"", b"\xff", chance.randbytes(32)))
        headers = {"content-type": "application/json"}
        if chance.random() < 0.2:
            headers = {"content-type": one} if (one := chance.choice(_TYPES)) else {}
        if chance.random() < 0.05:
            headers["content-encoding"] = chance.choice(("gzip", "identity", ""))
        if path == INFER and body != head and chance.random() < 0.7:
            length = chance.choice((len(head),) * 5 + (0, -1, 99999, "x", len(head) + 1))
            headers["inference-header-content-length"] = str(length)
        yield path, {name: value.encode("latin-1") for name, value in headers.items()}, body


def _spoilt(chance: random.Random, part: Any, share: float = 0.04) -> Any:
    """A document in which some values, keys and items are others, missing or there twice."""
    if chance.random() < share:
        return chance.choice((*_VALUES, *_ROW, _ROW, [_ROW]))
    if isinstance(part, list):
        kept = [_spoilt(chance, one, share) for one in part if chance.random() > share]
        return kept * chance.choice((1,) * 30 + (0, 2))
    if not isinstance(part, dict):
        return part
    items = [pair for pair in part.items() if chance.random() > share]
    if chance.random() < share:
        items.append((chance.choice((*_ROW, "columns", "data", "", "\ud800", "한글")), None))
    return {name: _spoilt(chance, one, share) for name, one in items}
