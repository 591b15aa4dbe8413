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
        with self._lock:
            self._refuse_taken(new.tag)
            flower = Flower(id=next(self._numbers), **new.model_dump())
            self._flowers[flower.id] = flower
            return flower

    def get(self, number: int) -> Flower:
        """Give a flower.

        Raises:
            NoFlowerError: There is none with this number.
        """
        try:
            return self._flowers[number]
        except KeyError:
            raise NoFlowerError(f"There is no flower {number}") from None

    def find(self, species: Species | None, limit: int, after: int) -> list[Flower]:
        """The flowers beyond a number, in the order of their numbers."""
        with self._lock:
            flowers = sorted(self._flowers.values(), key=lambda one: one.id)
        fitting = (one for one in flowers if one.id > after and species in (None, one.species))
        return [flower for flower, _ in zip(fitting, range(limit), strict=False)]

    def correct(self, number: int, correction: Correction) -> Flower:
        """Change what the correction has, and nothing else."""
        with self._lock:
            flower = self.get(number)
            changes = correction.model_dump(exclude_unset=True)
            if changes.get("tag", flower.tag) != flower.tag:
                self._refuse_taken(changes["tag"])
            self._flowers[number] = changed = Flower(**flower.model_dump() | changes)
            return changed

    def remove(self, number: int) -> None:
        """Forget a flower; its number is never given again."""
        with self._lock:
            del self._flowers[self.get(number).id]

    def _refuse_taken(self, tag: str) -> None:
        if any(one.tag == tag for one in self._flowers.values()):
            raise TagTakenError(f"There is a flower with the tag {tag} already")
