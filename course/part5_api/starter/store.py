"""Keeps flowers in memory; knows nothing of HTTP."""

from itertools import count
from threading import Lock

from models import Correction, Flower, NewFlower, Species


class NoFlowerError(Exception):
    """There is no flower with this number."""


class TagTakenError(Exception):
    """Another flower has this tag."""


class FlowerStore:
    """Flowers by their number; safe when several threads use it at once."""

    def __init__(self) -> None:
        self._flowers: dict[int, Flower] = {}
        self._numbers = count(1)
        self._lock = Lock()

    def add(self, new: NewFlower) -> Flower:
        """Keep a flower under the next number."""
        raise NotImplementedError("step 2: refuse a tag that is taken, then keep the flower")

    def get(self, number: int) -> Flower:
        """Give a flower.

        Raises:
            NoFlowerError: There is none with this number.
        """
        raise NotImplementedError("step 2: look into the dictionary")

    def find(self, species: Species | None, limit: int, after: int) -> list[Flower]:
        """The flowers beyond a number, in the order of their numbers."""
        raise NotImplementedError("step 4: sort, filter, and give at most `limit`")

    def correct(self, number: int, correction: Correction) -> Flower:
        """Change what the correction has, and nothing else."""
        raise NotImplementedError("step 5: model_dump(exclude_unset=True), and check the whole")

    def remove(self, number: int) -> None:
        """Forget a flower; its number is never given again."""
        raise NotImplementedError("step 5: delete it from the dictionary")
