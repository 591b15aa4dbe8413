import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf.errors import InterpolationResolutionError

from mlops_for_mle.choices import BLOCKS, RuntimeChoices
from mlops_for_mle.config_loader import ProjectConfigLoader
from mlops_for_mle.errors import ConfigurationError, causes
from mlops_for_mle.parameters import parameter_blocks
from mlops_for_mle.resolvers import RESOLVERS, one_of

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
    assert set(RuntimeChoices.model_fields) == set(
        re.findall(r"runtime_params:\s*(\w+)", "".join(texts))
    )


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """The shipped configuration with an empty folder for a person's own."""
    shutil.copytree(PROJECT / "conf/base", tmp_path / "base")
    (tmp_path / "local").mkdir()
    return tmp_path


def refusal(folder: Path, key: str = "parameters", **options: Any) -> str:
    """The sentences that a person would see."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, custom_resolvers={**RESOLVERS}, **options)[key]
    return str(caught.value)


def test_a_globals_file_need_only_say_what_differs(shipped: Path) -> None:
    (shipped / "local/globals.yml").write_text("window: {row_limit: 100}\nmine: 1")

    found = load(shipped)["globals"]

    assert found["window"] == {"row_limit": 100, "watermark": None, "csv_path": None}
    assert (found["mine"], found["source"]) == (1, "dataset")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("window: {row_limit: -1}", "globals.window.row_limit: input should be greater than"),
        ("window: {row_limit: '5'}", "globals.window.row_limit: input should be a valid integer"),
        ("window: {watermark: 0}", "globals.window.watermark: input should be greater than"),
        ("window: {row_limt: 5}", "globals.window.row_limt: unknown key; allowed: row_limit"),
        ("row_limit: 5", "globals.row_limit: means nothing here; it belongs into --params"),
        ("contract: {name: a}", "globals.contract: means nothing here; it belongs into a file"),
        ("window: 5", "globals.window: expected names with values (found 5)"),
        ("window: []", "globals: a list stands where names with values are expected"),
        ("windw: {row_limit: 5}", "windw: unknown among the globals; did you mean window?"),
        ("generator: {rows: 1.5}", "globals.generator.rows: input should be a valid integer"),
        ("generator: {seed: -1}", "globals.generator.seed: input should be greater than"),
        ("experiment:", "globals.experiment: input should be a valid string (found None)"),
        ("data_folder: 5", "globals.data_folder: input should be a valid string (found 5)"),
    ],
)
def test_a_wrong_choice_in_globals_is_named_with_what_is_allowed(
    shipped: Path, content: str, told: str
) -> None:
    (shipped / "local/globals.yml").write_text(content)
    assert refusal(shipped).startswith(told)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"row_limit": "abc"}, "row_limit: input should be a valid integer (found 'abc')"),
        ({"row_limit": 0}, "row_limit: input should be greater than or equal to 1 (found 0)"),
        ({"rows": None}, "rows: input should be a valid integer (found None)"),
        ({"rows": 1.5}, "rows: input should be a valid integer (found 1.5)"),
        ({"rows": True}, "rows: input should be a valid integer (found True)"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0 (found -1)"),
        ({"seed": 2**32}, "seed: input should be less than 4294967296 (found 4294967296)"),
        ({"watermark": 2.5}, "watermark: input should be a valid integer (found 2.5)"),
        ({"csv_path": None}, "csv_path: input should be a valid string (found None)"),
        ({"dataset": "load_wine"}, "--params dataset: stands in globals.yml only; --params takes "),
        ({"generator": {"rows": 7}}, "--params generator: stands in globals.yml only; --params"),
        ({"scoring": []}, "parameters: a list stands where names with values are expected"),
    ],
)
def test_a_wrong_choice_of_the_command_line_is_named_with_what_is_allowed(
    shipped: Path, given: dict[str, Any], told: str
) -> None:
    assert refusal(shipped, runtime_params=given).startswith(told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- a", "expected names with values, as in `name: value` (found ['a'])"),
        (b"5", "expected names with values, as in `name: value` (found 5)"),
        ("가: 1".encode("cp949"), "is no UTF-8 text (byte 0), expected YAML"),
        (b"a: 1\na: 2", "cannot be read as YAML: while constructing a mapping"),
        (b"gates:\n\tmetric: 5", "cannot be read as YAML: while scanning"),
    ],
    ids=["list", "number", "encoding", "name twice", "tab"],
)
@pytest.mark.parametrize("key", ["parameters", "globals", "catalog"])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    shipped: Path, key: str, content: bytes, told: str
) -> None:
    path = shipped / f"local/{key}.yml"
    path.write_bytes(content)
    assert refusal(shipped, key).startswith(f"{path}: {told}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("database: 5", "credentials.database: expected names with values (found 5)"),
        ("database: {}", "credentials.database.con: is missing"),
        ("database: {con: nope}", "credentials.database.con: expected postgresql://user:password"),
    ],
)
def test_credentials_of_the_database_are_checked(shipped: Path, content: str, told: str) -> None:
    (shipped / "local/credentials.yml").write_text(content)
    (shipped / "base/credentials.yml").unlink()
    assert refusal(shipped, "credentials").startswith(told)
