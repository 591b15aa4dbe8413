"""Reads values of a contract's target: class values, names of classes, or numbers."""

import math
from typing import Any

from mlops_for_mle.contract import Target


def read_target(target: Target, value: Any) -> int | float:
    """The value as the table holds it.

    Args:
        target: What is allowed.
        value: A class value or the name of a class; for a regression a number.

    Raises:
        ValueError: It is none of them; the message is the rest of a sentence about it.
    """
    if target.task == "classification":
        if isinstance(value, str):
            for one in target.classes:
                if one.label == value:
                    return one.value
        elif not isinstance(value, bool) and value in target.class_values:
            return int(value)
        raise ValueError("is no class")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is no number")  # noqa: TRY004  (one kind of error for a wrong value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("is not finite")
    if target.minimum is not None and number < target.minimum:
        raise ValueError("is too small")
    if target.maximum is not None and number > target.maximum:
        raise ValueError("is too large")
    return number


def target_label(target: Target, value: float) -> str | None:
    """The name of a class value; None for a regression."""
    return target.labels.get(int(value)) if target.classes else None


def describe_target(target: Target) -> str:
    """What is allowed, in words."""
    if target.task == "classification":
        return ", ".join(f'{one.value} or "{one.label}"' for one in target.classes)
    bounds = [
        f"at least {target.minimum:g}" if target.minimum is not None else "",
        f"at most {target.maximum:g}" if target.maximum is not None else "",
    ]
    return " of ".join(["a number", *filter(None, [" and ".join(filter(None, bounds))])])


def target_schema(target: Target) -> dict[str, Any]:
    """The JSON schema of what is allowed."""
    if target.task == "classification":
        return {
            "anyOf": [
                {"type": "integer", "enum": list(target.class_values)},
                {"type": "string", "enum": list(target.labels.values())},
            ]
        }
    facts = {"type": "number", "minimum": target.minimum, "maximum": target.maximum}
    return {key: value for key, value in facts.items() if value is not None}
