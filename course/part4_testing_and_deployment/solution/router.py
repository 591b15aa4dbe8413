"""Who answers: blue-green, canary and shadow; ``python router.py INBOX OUTBOX`` serves by events."""

import hashlib
import json
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
        if self.candidate is not None and not self.shadow and _place(customer) < self.share:
            return Answer(self.models[self.candidate].predict(flower), self.candidate)
        code = self.models[self.champion].predict(flower)
        if self.candidate is not None and self.shadow:
            self._compare(customer, flower, code)
        return Answer(code, self.champion)

    def switch(self) -> None:
        """Make the candidate champion at once; the former one stands by (blue-green)."""
        if self.candidate is not None:
            self.champion, self.candidate = self.candidate, self.champion
            self.share = 0.0

    def _compare(self, customer: str, flower: Flower, code: int) -> None:
        try:
            other = self.models[self.candidate or ""].predict(flower)
        except Exception as error:  # noqa: BLE001  (a shadow must harm nobody)
            print(f"The candidate has failed: {error!r}", file=sys.stderr)
            return
        if other != code:
            self.differences.append((customer, code, other))


def _place(customer: str) -> float:
    """Where a customer stands between 0 and 1; the same in every process."""
    return int.from_bytes(hashlib.sha256(customer.encode()).digest()[:8]) / 2**64


def drain(inbox: Path, outbox: Path, router: Router) -> int:
    """Answer every request that lies in a folder; one is removed after its answer is there."""
    requests = sorted(inbox.glob("*.json"))
    for path in requests:
        request = json.loads(path.read_text("utf-8"))
        answer = router.answer(request["customer"], (*request["flower"],))
        partial = outbox / f".{path.name}"
        partial.write_text(json.dumps(answer._asdict()), "utf-8")
        partial.replace(outbox / path.name)
        path.unlink()
    return len(requests)


if __name__ == "__main__":
    folder = Path("releases")
    name = served(folder)[-1]
    done = drain(Path(sys.argv[1]), Path(sys.argv[2]), Router({name: load(name, folder)}, name))
    print(f"{done} request(s) answered by {name}.")
