"""Says in a sentence what is wrong with a file of ``conf`` that Kedro cannot read."""

from collections.abc import Iterable
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from mlops_for_mle.errors import ConfigurationError

_READ = (".yml", ".yaml", ".json")


def require_mappings(folders: Iterable[Path], patterns: Iterable[str]) -> None:
    """Check that files of configuration are text and hold names with values, or nothing.

    Args:
        folders: The environments' folders; one that is not there has no files.
        patterns: Which files of a folder, as Kedro has them.

    Raises:
        ConfigurationError: One is not; the message names it and what was found.
    """
    # Python takes ** at the end for folders only.
    ways = [f"{one}/*" if one.endswith("**") else one for one in patterns]
    for folder in folders:
        for path in sorted({path for way in ways for path in folder.glob(way)}):
            if path.suffix in _READ and path.is_file():
                _require_mapping(path)


def _require_mapping(path: Path) -> None:
    try:
        text = path.read_text("utf-8")
        found = yaml.safe_load(text)
        if isinstance(found, dict):
            # Refuses what the line above lets pass: a name that is there twice.
            OmegaConf.create(text)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}: is no UTF-8 text (byte {error.start}), expected YAML"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ConfigurationError(f"{path}: cannot be read as YAML: {reason}") from None
    if found is not None and not isinstance(found, dict):
        raise ConfigurationError(
            f"{path}: expected names with values, as in `name: value` (found {found!r:.80})"
        )
