from datetime import timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.commands.options import Duration

UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read(value: object) -> timedelta:
    return Duration().convert(value, None, None)


@given(st.integers(0, 10_000), st.sampled_from(sorted(UNITS)))
def test_a_number_with_a_unit_is_read(number: int, unit: str) -> None:
    assert read(f"{number}{unit}") == timedelta(**{UNITS[unit]: number})


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5s", 1.5), ("0.25m", 15), (" 2h ", 7200), ("0s", 0)]
)
def test_fractions_and_spaces_around_are_fine(text: str, seconds: float) -> None:
    assert read(text) == timedelta(seconds=seconds)


def test_a_duration_is_taken_as_it_is() -> None:
    assert read(timedelta(days=1)) == timedelta(days=1)


@pytest.mark.parametrize(
    "text", ["", "s", "1", "-1s", "1w", "1 s", "1e3s", ".5s", "1s2", "nan", "1S"]
)
def test_anything_else_is_refused_with_what_was_found(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        read(text)

    assert caught.value.message == (
        f"expected a number with ms, s, m, h or d, such as 1s (found {text!r})"
    )


@pytest.mark.parametrize("text", ["99999999999999h", "9" * 400 + "s"])
def test_a_duration_beyond_all_clocks_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read(text)


def test_a_duration_below_the_least_is_refused() -> None:
    kind = Duration(timedelta(seconds=1))

    assert kind.convert("1s", None, None) == timedelta(seconds=1)
    with pytest.raises(click.BadParameter, match="at least 1s"):
        kind.convert("999ms", None, None)
