"""Reads values of a contract's target: class values, names of classes, or numbers."""

import math
from typing import Any

from mlops_for_mle.contract import Target


def read_target(target: Target, value: Any) -> int | float | str:
    """The value as the table of observations holds it.

    Args:
        target: What is allowed.
        value: A class value or the name of a class; for a regression a number.

    Raises:
        ValueError: It is none of them; the message is the rest of a sentence about it.
    """
    if target.task == "classification":
        if isinstance(value, str):
            if value in target.codes:
                return value
            for one in target.classes:
                if one.label == value:
                    return one.value
        elif _is_number(value) and value in target.codes:
            return int(value)
        raise ValueError("is no class")
    if not _is_number(value):
        raise ValueError("is no number")
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


def target_code(target: Target, value: float | str) -> float:
    """The value as predictions and feedback hold it: text classes by their place."""
    return target.codes[value] if isinstance(value, str) else value


def target_label(target: Target, value: float) -> str | None:
    """The name of a class code; None for a regression."""
    return target.labels.get(int(value)) if target.classes else None


def describe_target(target: Target) -> str:
    """What is allowed, in words."""
    if target.task == "classification":
        return ", ".join(
            " or ".join(dict.fromkeys((_shown(one.value), _shown(one.label))))
            for one in target.classes
        )
    bounds = [
        f"at least {target.minimum:g}" if target.minimum is not None else "",
        f"at most {target.maximum:g}" if target.maximum is not None else "",
    ]
    return " of ".join(["a number", *filter(None, [" and ".join(filter(None, bounds))])])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: int | str) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def target_schema(target: Target) -> dict[str, Any]:
    """The JSON schema of what is allowed."""
    if target.has_text_classes:
        names = [*target.class_values, *target.labels.values()]
        return {"type": "string", "enum": list(dict.fromkeys(names))}
    if target.task == "classification":
        return {
            "anyOf": [
                {"type": "integer", "enum": list(target.class_values)},
                {"type": "string", "enum": list(target.labels.values())},
            ]
        }
    facts = {"type": "number", "minimum": target.minimum, "maximum": target.maximum}
    return {key: value for key, value in facts.items() if value is not None}
