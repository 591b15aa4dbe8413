"""Casts values of protocols with fewer types than a contract has."""

import math
from typing import Any

from mlops_for_mle.contract import Feature

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def cast(value: Any, feature: Feature) -> Any:
    """A value as a feature holds it, as far as that is possible.

    Blank text and NaN are missing values; text is read as what the feature holds; 0 and 1 are
    booleans. What cannot be cast is given back, for the checks to refuse.
    """
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, str):
        return _cast_text(value, feature) if value.strip() else None
    if feature.type == "boolean" and value in (0, 1):
        return bool(value)
    return float(value) if isinstance(value, bool) and feature.is_number else value


def _cast_text(text: str, feature: Feature) -> Any:
    if feature.type == "boolean":
        return _BOOLEANS.get(text.lower(), text)
    if feature.is_number or feature.has_integer_categories:
        try:
            return float(text)
        except ValueError:
            return text
    return text
