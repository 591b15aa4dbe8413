"""Rows as JSON text, for those that are kept because they were not scored."""

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def row_as_json(row: Mapping[str, Any]) -> str:
    """A row as JSON text that jsonb takes: a number that is not finite stands as text."""
    values = {name: _plain(value) for name, value in row.items()}
    return json.dumps(values, default=str, ensure_ascii=False).replace("\\u0000", "�")


def _plain(value: Any) -> Any:
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else str(value)
    return value.item() if hasattr(value, "item") else value
