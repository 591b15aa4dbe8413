"""What the project's own entries of the catalog have in common."""

from typing import Any

from kedro.io import AbstractDataset


class ProjectDataset(AbstractDataset[Any, Any]):
    """An entry that is read, written or both, as its kind says."""

    def __init__(self, metadata: dict[str, Any] | None, **described: Any) -> None:
        """Take what Kedro-Viz is told, and what Kedro shows of the entry."""
        self.metadata = metadata
        self._described = described

    def load(self) -> Any:
        """Not possible, unless a kind of entry does it."""
        raise NotImplementedError("it is only written")

    def save(self, data: Any) -> None:
        """Not possible, unless a kind of entry does it."""
        raise NotImplementedError("it is only read")

    def _describe(self) -> dict[str, Any]:
        return self._described
