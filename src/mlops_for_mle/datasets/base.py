"""What several catalog entries have in common."""

from typing import Any, Generic, NoReturn, TypeVar

from kedro.io import AbstractDataset

from mlops_for_mle.contract import Contract

Loaded = TypeVar("Loaded")


class ReadOnlyDataset(AbstractDataset[None, Loaded], Generic[Loaded]):
    """An entry that another pipeline, or somebody else, writes."""

    def save(self, data: None) -> NoReturn:
        """Not possible.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(f"{type(self).__name__} is read-only")


class ContractTables:
    """An entry of a contract's rows in the project's own tables."""

    def __init__(
        self,
        contract: dict[str, Any],
        credentials: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the parameters block ``contract`` and credentials with the key ``con``."""
        self._contract = Contract.model_validate(contract)
        self._url: str = credentials["con"]
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"contract": self._contract.name}
