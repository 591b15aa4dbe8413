"""Who answers: blue-green, canary and shadow; ``python router.py INBOX OUTBOX`` serves by events."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from releases import Flower, Model, load, served


class Answer(NamedTuple):
    """A class, and the release that has answered it."""

    code: int
    release: str


@dataclass
class Router:
    """Lets the champion answer, or for some customers the candidate; ``models`` are by release.

    Attributes:
        share: Of the customers, from 0 to 1, whom the candidate answers.
        shadow: Whether the candidate is asked beside the champion, and only compared.
        differences: Customer, the champion's class, and what the candidate would have answered.
    """

    models: dict[str, Model]
    champion: str
    candidate: str | None = None
    share: float = 0.0
    shadow: bool = False
    differences: list[tuple[str, int, int]] = field(default_factory=list)

    def answer(self, customer: str, flower: Flower) -> Answer:
        """Answer a customer, always by the same release while nothing is changed."""
        raise NotImplementedError("step 4: canary by the hash of the customer, or shadow")

    def switch(self) -> None:
        """Make the candidate champion at once; the former one stands by (blue-green)."""
        raise NotImplementedError("step 4: exchange both names")


def drain(inbox: Path, outbox: Path, router: Router) -> int:
    """Answer every request that lies in a folder; one is removed after its answer is there."""
    raise NotImplementedError("step 5: read, answer, write whole, and only then remove")


if __name__ == "__main__":
    folder = Path("releases")
    name = served(folder)[-1]
    done = drain(Path(sys.argv[1]), Path(sys.argv[2]), Router({name: load(name, folder)}, name))
    print(f"{done} request(s) answered by {name}.")
