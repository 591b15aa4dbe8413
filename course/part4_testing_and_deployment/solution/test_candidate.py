"""Tests of the data and of the candidate: ``pytest test_candidate.py``, before anybody serves it."""

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from releases import Flower, Model, read_model

Rows = list[tuple[Flower, int]]

CLASSES = {0, 1, 2}


@pytest.fixture(scope="module")
def rows() -> Rows:
    """The flowers of ROWS and their classes."""
    with Path(os.environ.get("ROWS", "iris.csv")).open(newline="") as file:
        lines = list(csv.reader(file))[1:]
    return [((float(a), float(b), float(c), float(d)), int(e)) for a, b, c, d, e in lines]


@pytest.fixture(scope="module")
def model() -> Model:
    """The model in CANDIDATE."""
    return read_model(Path(os.environ.get("CANDIDATE", "candidate.json")))


def test_data_every_length_is_one(rows: Rows) -> None:
    assert all(0 < length <= 30 for flower, _ in rows for length in flower)


def test_data_has_every_class_and_no_other(rows: Rows) -> None:
    counts = Counter(target for _, target in rows)
    assert counts.keys() == CLASSES
    assert min(counts.values()) >= 10


def test_model_answers_known_classes_and_always_the_same(rows: Rows, model: Model) -> None:
    answers = [model.predict(flower) for flower, _ in rows]
    assert set(answers) <= CLASSES
    assert answers == [model.predict(flower) for flower, _ in rows]


@pytest.mark.parametrize("target", sorted(CLASSES))
def test_model_knows_every_class(rows: Rows, model: Model, target: int) -> None:
    answers = [model.predict(flower) for flower, code in rows if code == target]
    assert answers.count(target) >= 0.8 * len(answers)


def test_model_is_not_upset_by_a_breath(rows: Rows, model: Model) -> None:
    """Measured a tenth of a millimetre longer, hardly any flower is another."""
    step = 0.01
    changed = [
        model.predict((a, b, c, d)) != model.predict((a + step, b + step, c + step, d + step))
        for (a, b, c, d), _ in rows
    ]
    assert sum(changed) <= 0.02 * len(rows)


def test_model_takes_larger_petals_for_no_smaller_species(rows: Rows, model: Model) -> None:
    """Species 0, 1 and 2 have ever larger petals."""
    for (a, b, c, d), _ in rows:
        assert model.predict((a, b, c + 1, d + 0.5)) >= model.predict((a, b, c, d))
