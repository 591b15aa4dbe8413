"""Kedro's configuration loader, with the contract known to the catalog."""

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mlops_for_mle.choices import (
    BLOCKS,
    Credentials,
    GlobalChoices,
    RuntimeChoices,
    refuse_misplaced,
)
from mlops_for_mle.config_faults import require_mappings
from mlops_for_mle.configuration import parse_configuration, refuse_misspellings
from mlops_for_mle.errors import ConfigurationError

# What Kedro and OmegaConf raise for files that hold no names with values.
_UNREADABLE = (
    AttributeError,
    OSError,
    OmegaConfBaseException,
    TypeError,
    UnicodeDecodeError,
    YAMLError,
)


class ProjectConfigLoader(OmegaConfigLoader):
    """Adds ``${parameters:block}``, so that catalog entries can be given parameters.

    Unlike other files, ``globals.yml`` of an environment adds to the one of ``conf/base``.
    """

    def __init__(
        self, *args: Any, custom_resolvers: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Read the globals, and check all that the catalog will take.

        Raises:
            ConfigurationError: A choice or the environment is wrong; the message names each.
        """
        resolvers = {**(custom_resolvers or {}), "parameters": self._parameter_block}
        # Kedro would keep the resolver of the process's first loader, and with it its parameters.
        OmegaConf.clear_resolver("parameters")
        self._parameters: dict[str, Any] | None = None
        options.setdefault("merge_strategy", {"globals": "soft"})
        super().__init__(*args, custom_resolvers=resolvers, **options)
        self._require_environment()
        if self._globals:
            refuse_misspellings(self._globals, GlobalChoices.model_fields, "globals")
            parse_configuration(GlobalChoices, self._globals, "globals")
            refuse_misplaced(self._globals, self.runtime_params)
        parse_configuration(RuntimeChoices, self.runtime_params, "")

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Configuration files of a kind, merged; what they ask of the parameters is read once.

        Raises:
            KeyError, MissingConfigException: As Kedro's loader does.
            ConfigurationError: A file holds something else than names with values, or a
                parameter's name is nearly one that means something.
        """
        before, self._parameters = self._parameters, None
        try:
            found = super().__getitem__(key)
        except _UNREADABLE as error:
            environments = (self.base_env, self.env or self.default_run_env)
            folders = [Path(self.conf_source) / name for name in environments]
            require_mappings(folders, self.config_patterns.get(key, ()))
            if isinstance(error, TypeError) and "incompatible container types" in str(error):
                given = f" (found --params {self.runtime_params})" if self.runtime_params else ""
                raise ConfigurationError(
                    f"{key}: a list stands where names with values are expected, or the other "
                    f"way round{given}"
                ) from None
            raise
        finally:
            self._parameters = before
        if key == "parameters":
            refuse_misspellings(found, (*BLOCKS, *RuntimeChoices.model_fields), key)
        if key == "credentials":
            _check_credentials(found)
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


def _check_credentials(raw: dict[str, Any]) -> None:
    from mlops_for_mle.database import normalise_url

    parsed = parse_configuration(Credentials, raw, "credentials")
    normalise_url(parsed.database.con, "credentials.database.con")
