"""Identifiers of predictions."""

import os
import time

_RANDOM_BITS = 74
_RANDOM_MASK_HIGH = (1 << 12) - 1
_RANDOM_MASK_LOW = (1 << 62) - 1


def new_prediction_id() -> str:
    """A UUID of version 7 (RFC 9562): sorts by the millisecond in which it was made."""
    chance = int.from_bytes(os.urandom(10), "big") >> (80 - _RANDOM_BITS)
    number = (
        (time.time_ns() // 1_000_000) << 80
        | 0x7 << 76
        | (chance & _RANDOM_MASK_HIGH) << 64
        | 0b10 << 62
        | (chance >> 12) & _RANDOM_MASK_LOW
    )
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
