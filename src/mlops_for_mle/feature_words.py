"""What a feature may hold, in words for people."""

import json

from mlops_for_mle.contract import Feature

_SHOWN_CATEGORIES = 20


def describe(feature: Feature) -> str:
    """What a feature may hold, in words."""
    if feature.type == "boolean":
        described = "true or false"
    elif feature.type == "category":
        described = _describe_categories(feature)
    elif feature.is_time:
        described = _describe_times(feature)
    else:
        described = _describe_numbers(feature)
    return f"{described}, or null" if feature.is_optional else described


def _describe_numbers(feature: Feature) -> str:
    kind = "a whole number" if feature.type == "integer" else "a number"
    if feature.minimum is not None and feature.maximum is not None:
        return f"{kind} from {feature.minimum:g} to {feature.maximum:g}"
    if feature.minimum is not None:
        return f"{kind} of at least {feature.minimum:g}"
    if feature.maximum is not None:
        return f"{kind} of at most {feature.maximum:g}"
    return kind


def _describe_times(feature: Feature) -> str:
    kind = "a date such as 2026-01-31"
    if feature.type == "timestamp":
        kind = "a time such as 2026-01-31T12:00:00Z; without an offset it is UTC"
    first = f", from {feature.earliest.isoformat()}" if feature.earliest is not None else ""
    last = f", until {feature.latest.isoformat()}" if feature.latest is not None else ""
    return kind + first + last


def _describe_categories(feature: Feature) -> str:
    if feature.unknown == "other":
        return "a whole number" if feature.has_integer_categories else "text"
    few = feature.categories[:_SHOWN_CATEGORIES]
    shown = ", ".join(json.dumps(one, ensure_ascii=False) for one in few)
    more = len(feature.categories) - len(few)
    return f"one of {shown} and {more} more" if more else f"one of {shown}"
