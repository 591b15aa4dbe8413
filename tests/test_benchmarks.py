"""The parts of ``benchmarks`` on which its numbers rest."""

import runpy
import sys

import pytest
from benchmarks.common import interleave, ratio
from benchmarks.serving.__main__ import Load, judge


@pytest.mark.parametrize("name", ["start_up", "pipelines", "serving"])
def test_each_says_what_it_takes(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    said = capsys.readouterr().out
    assert "--rounds" in said
    assert "--check" in said


def test_rounds_are_compared_within_themselves_in_changing_order_and_the_first_not_counted():
    calls: list[str] = []
    ways = {(name,): lambda name=name: calls.append(name) or len(calls) for name in "ab"}
    assert interleave(2, ways, str) == {("a",): [3, 6], ("b",): [4, 5]}
    assert "".join(calls) == "baabba"
    # The machine is ten times slower in the second round, for both.
    ones, others = ([Load(rate, 0) for rate in rates] for rates in ([9, 1, 3], [18, 2, 10]))
    assert ratio(ones, others, "rate") == 0.5


@pytest.mark.parametrize(
    ("ours", "names", "is_reached"),
    [
        (Load(551, 0), ["ours", "noop"], True),
        (Load(549, 0), ["ours", "noop"], False),
        (Load(900, 1), ["ours", "noop"], False),
        (Load(900, 0), ["ours", "noop", "mlflow"], False),
    ],
    ids=["reached", "missed", "errors", "a peer was left out"],
)
def test_a_gate_is_reached_at_its_ratio(ours, names, is_reached):
    found = {("iris", "1", "ours"): [ours], ("iris", "1", "noop"): [Load(1000, 0)]}
    assert judge(found, names) is is_reached
