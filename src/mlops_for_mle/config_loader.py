"""Kedro's configuration loader, with the contract known to the catalog."""

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

from mlops_for_mle.choices import BLOCKS, RUNTIME_NAMES
from mlops_for_mle.configuration import refuse_misspellings
from mlops_for_mle.errors import ConfigurationError


class ProjectConfigLoader(OmegaConfigLoader):
    """Adds ``${parameters:block}``, so that catalog entries can be given parameters."""

    def __init__(
        self, *args: Any, custom_resolvers: dict[str, Any] | None = None, **options: Any
    ) -> None:
        resolvers = {**(custom_resolvers or {}), "parameters": self._parameter_block}
        # Kedro would keep the resolver of the process's first loader, and with it its parameters.
        OmegaConf.clear_resolver("parameters")
        self._parameters: dict[str, Any] | None = None
        super().__init__(*args, custom_resolvers=resolvers, **options)
        self._require_environment()

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Configuration files of a kind, merged; what they ask of the parameters is read once.

        Raises:
            KeyError, MissingConfigException: As Kedro's loader does.
            ConfigurationError: A parameter's name is nearly one that means something.
        """
        before, self._parameters = self._parameters, None
        try:
            found = super().__getitem__(key)
        finally:
            self._parameters = before
        if key == "parameters":
            refuse_misspellings(found, (*BLOCKS, *RUNTIME_NAMES), key)
        return found

    def _require_environment(self) -> None:
        """Check that the environment which somebody has named is there.

        Raises:
            ConfigurationError: Names those that are.
        """
        conf = Path(self.conf_source)
        if not self.env or not conf.is_dir() or (conf / self.env).is_dir():
            return
        known = sorted(one.name for one in conf.iterdir() if one.is_dir() and one.name != "base")
        raise ConfigurationError(
            f"--env or KEDRO_ENV: expected a folder of conf, which are {', '.join(known)} "
            f"(found {self.env!r})"
        )

    def _parameter_block(self, path: str) -> Any:
        if self._parameters is None:
            self._parameters = self["parameters"]
        found: Any = self._parameters
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return found
