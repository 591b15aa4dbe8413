"""Identifiers of predictions."""

import os
import time

_RANDOM_BYTES = 10
_BATCH = 256

# The random parts of ids to come, since asking the kernel for each would cost as much as all else.
_random_parts: list[str] = []


def new_prediction_id() -> str:
    """A UUID of version 7 (RFC 9562): sorts by the millisecond in which it was made."""
    try:
        random_part = _random_parts.pop()
    except IndexError:
        _refill()
        return new_prediction_id()
    milliseconds = f"{time.time_ns() // 1_000_000:012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}-{random_part}"


def _refill() -> None:
    chance = os.urandom(_RANDOM_BYTES * _BATCH).hex()
    width = 2 * _RANDOM_BYTES
    for start in range(0, len(chance), width):
        part = chance[start : start + width]
        variant = "89ab"[int(part[3], 16) & 3]
        _random_parts.append(f"7{part[:3]}-{variant}{part[4:7]}-{part[7:19]}")


# A forked process would otherwise make the same ids as the one that it came from.
os.register_at_fork(after_in_child=_random_parts.clear)
