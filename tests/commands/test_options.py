from datetime import timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_for_mle.commands.options import Duration

UNITS = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@given(st.integers(0, 10_000), st.sampled_from(sorted(UNITS)))
def test_a_number_with_a_unit_is_read(number: int, unit: str) -> None:
    expected = timedelta(**{UNITS[unit]: number})
    assert Duration().convert(f"{number}{unit}", None, None) == expected
    assert Duration().convert(f"{number}.5{unit}", None, None) > expected


@pytest.mark.parametrize(
    "text", ["", "s", "1", "-1s", "1w", "1 s", "1e3s", ".5s", "nan", "1S", "99999999999999h"]
)
def test_anything_else_is_refused_with_what_was_found(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a number with ms, s, m, h or d") as said:
        Duration().convert(text, None, None)
    assert repr(text) in said.value.message


def test_a_duration_below_the_least_is_refused() -> None:
    kind = Duration(timedelta(seconds=1))

    assert kind.convert("1s", None, None) == timedelta(seconds=1)
    with pytest.raises(click.BadParameter, match="at least 1s"):
        kind.convert("999ms", None, None)
