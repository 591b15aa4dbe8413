"""Kedro's configuration loader, with the contract known to the catalog."""

from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf


class ProjectConfigLoader(OmegaConfigLoader):
    """Adds ``${parameters:block}``, so that catalog entries can be given parameters."""

    def __init__(
        self, *args: Any, custom_resolvers: dict[str, Any] | None = None, **options: Any
    ) -> None:
        resolvers = {**(custom_resolvers or {}), "parameters": self._parameter_block}
        # Kedro would keep the resolver of the process's first loader, and with it its parameters.
        OmegaConf.clear_resolver("parameters")
        super().__init__(*args, custom_resolvers=resolvers, **options)

    def _parameter_block(self, path: str) -> Any:
        found: Any = self["parameters"]
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return found
