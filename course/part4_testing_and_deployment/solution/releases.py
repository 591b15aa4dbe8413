"""Releases of a model, and the history of what was served: ``python releases.py`` shows it."""

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

Flower = tuple[float, float, float, float]


@dataclass(frozen=True)
class Model:
    """Answers the class whose mean flower is nearest; ``centroids`` are those means."""

    centroids: dict[int, Flower]

    def predict(self, flower: Flower) -> int:
        """Give the class of a flower."""

        def distance(code: int) -> float:
            pairs = zip(flower, self.centroids[code], strict=True)
            return sum((one - other) ** 2 for one, other in pairs)

        return min(self.centroids, key=distance)


def read_model(path: Path) -> Model:
    """Read a model file: JSON that names the mean flower of each class."""
    centroids = json.loads(path.read_text("utf-8"))["centroids"]
    return Model({int(code): (*flower,) for code, flower in centroids.items()})


def publish(model: Path, folder: Path) -> str:
    """Copy a model file under the name of its content; gives the release's name."""
    content = model.read_bytes()
    name = hashlib.sha256(content).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_bytes(content)
    partial.replace(folder / f"{name}.json")
    return name


def load(name: str, folder: Path) -> Model:
    """Read a release.

    Raises:
        ValueError: Its content is not what it was published with.
    """
    path = folder / f"{name}.json"
    if hashlib.sha256(path.read_bytes()).hexdigest()[:12] != name:
        raise ValueError(f"Release {name} was changed after it was published")
    return read_model(path)


def record(event: str, name: str, folder: Path) -> None:
    """Append a line to the history; it is on disk when this returns."""
    with (folder / "deployments.jsonl").open("a", encoding="utf-8") as file:
        # The line break comes first, because a killed process may have left half a line.
        file.write("\n" + json.dumps({"event": event, "release": name}))
        file.flush()
        os.fsync(file.fileno())


def served(folder: Path) -> list[str]:
    """What is served now, last in the list, and before it what a rollback would go back to."""
    history = folder / "deployments.jsonl"
    stack: list[str] = []
    for line in history.read_text("utf-8").splitlines() if history.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # The process was killed in the middle of this line.
        if entry["event"] == "rollback":
            stack.pop()
        elif entry["release"] not in stack[-1:]:
            stack.append(entry["release"])
    return stack


def deploy(name: str, folder: Path) -> None:
    """Serve a release from now on, if it can be loaded."""
    load(name, folder)
    record("deploy", name, folder)


def rollback(folder: Path) -> str:
    """Serve what was served before; gives its name.

    Raises:
        ValueError: Nothing was.
    """
    stack = served(folder)
    if len(stack) < 2:
        raise ValueError("There is no release to go back to")
    record("rollback", stack[-2], folder)
    return stack[-2]


if __name__ == "__main__":
    print(*served(Path(*sys.argv[1:2]) if sys.argv[1:] else Path("releases")), sep="\n")
