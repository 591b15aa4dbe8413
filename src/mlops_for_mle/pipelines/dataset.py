"""What the project's own entries of the catalog have in common."""

from typing import Any

from kedro.io import AbstractDataset

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for


class ProjectDataset(AbstractDataset[Any, Any]):
    """An entry that is read, written or both, as its class says."""

    def __init__(self, metadata: dict[str, Any] | None, **description: Any) -> None:
        self.metadata = metadata
        self._description = description

    def load(self) -> Any:
        """Refuse, unless a subclass loads."""
        raise NotImplementedError("it is only written")

    def save(self, data: Any) -> None:
        """Refuse, unless a subclass saves."""
        raise NotImplementedError("it is only read")

    def _describe(self) -> dict[str, Any]:
        return self._description


class ContractDataset(ProjectDataset):
    """An entry that belongs to a contract, in the project's database or described by it."""

    def __init__(
        self,
        contract: dict[str, Any],
        credentials: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the parameters block ``contract`` and credentials with the key ``con``, a URL."""
        self._contract = Contract.model_validate(contract)
        self._url: str = credentials["con"]
        self._engine = engine_for(self._url)
        super().__init__(metadata, contract=self._contract.name)
