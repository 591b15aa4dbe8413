import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf.errors import InterpolationResolutionError

from mlops_for_mle.choices import BLOCKS, RUNTIME_NAMES
from mlops_for_mle.commands.friendly import causes
from mlops_for_mle.config_loader import ProjectConfigLoader
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.hooks import parameter_blocks
from mlops_for_mle.resolvers import one_of

# Kedro 1.7 still calls OmegaConf's former name of this function.
pytestmark = pytest.mark.filterwarnings("ignore:register_new_resolver")

PROJECT = Path(__file__).parents[2]

PARAMETERS = """
contract:
  name: iris
  features: {a: {type: float}}
"""

CATALOG = """
table: {type: pandas.CSVDataset, contract: "${parameters:contract}"}
nothing: {type: pandas.CSVDataset, contract: "${parameters:absent}"}
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    for name in ("base", "local", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "parameters.yml").write_text(PARAMETERS)
    (tmp_path / "base" / "catalog.yml").write_text(CATALOG)
    return tmp_path


def load(folder: Path, **options: Any) -> ProjectConfigLoader:
    return ProjectConfigLoader(str(folder), base_env="base", default_run_env="local", **options)


def test_a_catalog_entry_is_given_a_block_of_parameters(configuration: Path) -> None:
    entry = load(configuration)["catalog"]["table"]

    assert entry["contract"] == {"name": "iris", "features": {"a": {"type": "float"}}}


def test_a_block_that_is_not_there_is_nothing(configuration: Path) -> None:
    assert load(configuration)["catalog"]["nothing"]["contract"] is None


def test_the_parameters_are_read_once_for_all_entries_and_again_for_the_next_reading(
    configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = ProjectConfigLoader._read_raw_config

    def counted(loader: ProjectConfigLoader, key: str) -> Any:
        read.append(key)
        return original(loader, key)

    monkeypatch.setattr(ProjectConfigLoader, "_read_raw_config", counted)
    loader = load(configuration)
    read.clear()

    loader["catalog"]
    assert sorted(read) == ["catalog", "parameters"]
    (configuration / "base" / "parameters.yml").write_text("contract: {name: wine}")
    assert loader["catalog"]["table"]["contract"] == {"name": "wine"}


def test_the_block_is_that_of_the_loaders_own_environment(configuration: Path) -> None:
    (configuration / "other" / "parameters.yml").write_text("contract: {name: wine}")

    assert load(configuration, env="other")["catalog"]["table"]["contract"] == {"name": "wine"}
    assert load(configuration)["catalog"]["table"]["contract"]["name"] == "iris"


def test_parameters_of_the_command_line_reach_the_catalog(configuration: Path) -> None:
    (configuration / "base" / "parameters.yml").write_text(
        "contract: {name: '${runtime_params:name,iris}'}"
    )

    entry = load(configuration, runtime_params={"name": "wine"})["catalog"]["table"]

    assert entry["contract"] == {"name": "wine"}


def test_resolvers_of_the_project_work_beside_it(configuration: Path) -> None:
    (configuration / "base" / "catalog.yml").write_text(
        "table: {type: pandas.CSVDataset, filepath: '${one_of:source,tabel,table,csv}'}"
    )

    with pytest.raises(InterpolationResolutionError) as caught:
        load(configuration, custom_resolvers={"one_of": one_of})["catalog"]

    told = [str(error) for error in causes(caught.value) if isinstance(error, ConfigurationError)]
    assert told == ["source: expected one of table, csv (found 'tabel')"]


def test_an_environment_that_is_not_there_is_refused_with_those_that_are(
    configuration: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"are local, other \(found 'nope'\)"):
        load(configuration, env="nope")
    load(configuration, env="other")


@pytest.mark.parametrize(
    ("file", "given"),
    [("trainig: {seed: 1}", {}), ("mine: 1", {"trainig": {"seed": 1}})],
    ids=["in a file", "by --params"],
)
def test_a_misspelt_block_is_refused_wherever_it_stands(
    configuration: Path, file: str, given: dict[str, Any]
) -> None:
    (configuration / "local" / "parameters.yml").write_text(file)
    loader = load(configuration, runtime_params=given)

    with pytest.raises(ConfigurationError, match=r"trainig: .*did you mean training"):
        loader["parameters"]


def test_parameters_of_ones_own_are_given_as_they_are(configuration: Path) -> None:
    (configuration / "local" / "parameters.yml").write_text("mine: {colour: red}")

    assert load(configuration)["parameters"]["mine"] == {"colour": "red"}


def test_the_names_that_are_known_are_those_that_the_shipped_configuration_asks_for() -> None:
    texts = [path.read_text("utf-8") for path in (PROJECT / "conf").glob("*/*.yml")]

    assert set(BLOCKS) == set(parameter_blocks())
    assert set(RUNTIME_NAMES) == set(re.findall(r"runtime_params:\s*(\w+)", "".join(texts)))
