import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from pydantic import ValidationError

from mlops_for_mle.config import BLOCKS, RESOLVERS, Globals, ProjectConfigLoader
from mlops_for_mle.contract.infer.write import as_value
from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.settings import CONFIG_LOADER_ARGS
from tests import PROJECT

# Kedro 1.7 still calls OmegaConf's former name of this function.
pytestmark = pytest.mark.filterwarnings("ignore:register_new_resolver")

OTHER = {"contract": {"name": "other", "features": {"x": {}}}}


@pytest.fixture
def conf(tmp_path):
    """The shipped configuration with an empty folder for a person's own, and another."""
    shutil.copytree(PROJECT / "conf/base", tmp_path / "base")
    for name in ("local", "other"):
        (tmp_path / name).mkdir()
        entries = "mine: {type: pandas.CSVDataset, contract: '${parameters:contract}'}"
        (tmp_path / name / "catalog.yml").write_text(entries)
    (tmp_path / "other/contract.yml").write_text(yaml.safe_dump(OTHER))
    OmegaConf.register_resolver("database_url", lambda: "postgresql://x/y", replace=True)
    yield tmp_path
    for name, resolver in RESOLVERS.items():
        OmegaConf.register_resolver(name, resolver, replace=True)


def load(folder: Path, **options: Any) -> ProjectConfigLoader:
    resolvers = {"custom_resolvers": dict.fromkeys(RESOLVERS, lambda: "somewhere")}
    return ProjectConfigLoader(str(folder), **CONFIG_LOADER_ARGS | resolvers | options)


def test_an_environment_says_only_what_differs(conf):
    (conf / "local/parameters.yml").write_text("gates: {threshold: 0.5}\nmine: {colour: red}")
    (conf / "local/globals.yml").write_text("row_limit: 100\nown: 1")
    (conf / "local/mlflow.yml").write_text("ui: {port: '5001'}\ntracking: {run: {name: mine}}")

    loader = load(conf)

    gates = loader["parameters"]["gates"]
    assert (gates["metric"], gates["threshold"]) == ("accuracy", 0.5)
    assert loader["parameters"]["mine"] == {"colour": "red"}
    assert (loader["globals"]["row_limit"], loader["globals"]["own"]) == (100, 1)
    assert loader["globals"]["source"] == "dataset"
    mlflow = loader["mlflow"]
    assert mlflow["ui"] == {"host": "127.0.0.1", "port": "5001"}
    assert mlflow["tracking"]["run"] == {"name": "mine", "nested": False}
    assert "monitoring" in mlflow["tracking"]["disable_tracking"]["pipelines"]
    # But a contract is replaced as a whole.
    assert load(conf, env="other")["parameters"]["contract"] == OTHER["contract"]


def test_no_address_of_mlflow_means_the_default_one(conf, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    (conf / "local/mlflow.yml").write_text("server: {mlflow_tracking_uri: null}")

    assert load(conf)["mlflow"]["server"]["mlflow_tracking_uri"] == "http://mlflow:5000"


def test_a_contract_of_2000_features_is_read(conf):
    features = {f"x{number}": {"minimum": 0, "maximum": 1} for number in range(2000)}
    (conf / "other/contract.yml").write_text(yaml.safe_dump({"contract": {"features": features}}))

    assert load(conf, env="other")["parameters"]["contract"]["features"] == features


def test_the_command_line_counts_more_than_files(conf):
    given = {"source": "csv", "csv_path": "a.csv"}
    given |= {"contract": {"table": "t"}, "training": {"seed": 1}}

    loader = load(conf, runtime_params=given)

    assert loader["catalog"]["source_rows"]["filepath"] == "a.csv"
    assert loader["parameters"]["contract"]["table"] == "t"
    assert loader["parameters"]["contract"]["name"] == "iris"
    assert loader["parameters"]["ingestion"]["source"] == "csv"
    assert loader["parameters"]["training"] | {"seed": 1} == loader["parameters"]["training"]


def test_text_that_looks_like_an_interpolation_stays_text_in_parameters_and_catalog(conf):
    categories = ["${a}", "\\${a}", "a ${b:c}"]
    contract = {"name": "other", "features": {"x": {"categories": categories}}}
    (conf / "other/contract.yml").write_text(f"contract: {as_value(contract)}")

    loader = load(conf, env="other")

    assert loader["parameters"]["contract"] == contract
    assert loader["catalog"]["mine"]["contract"] == contract


def test_two_environments_of_one_process_do_not_mix(conf):
    first, second = load(conf), load(conf, env="other", runtime_params={"rows": 7})

    assert first["catalog"]["mine"]["contract"]["name"] == "iris"
    assert second["catalog"]["mine"]["contract"]["name"] == "other"
    assert first["catalog"]["mine"]["contract"]["name"] == "iris"
    assert (first["globals"]["rows"], second["globals"]["rows"]) == (150, 7)


@pytest.mark.parametrize(
    ("where", "text", "given"),
    [
        ("parameters", "trainig: {seed: 1}", {}),
        ("parameters", "", {"trainig": {"seed": 1}}),
        ("globals", "csv_pth: a.csv", {}),
        ("parameters", "", {"sources": "csv"}),
    ],
)
def test_a_misspelt_name_is_refused_wherever_it_stands(conf, where, text, given):
    (conf / f"local/{where}.yml").write_text(text)

    with pytest.raises(ConfigurationError, match=r"did you mean (training|csv_path|source)\?"):
        load(conf, runtime_params=given)["parameters"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("source", "tabel"), ("rows", 0), ("rows", True), ("row_limit", "5"), ("experiment", "")],
)
def test_a_wrong_value_is_named_whether_it_stands_in_a_file_or_on_the_command_line(
    conf, name, value
):
    with pytest.raises(ValidationError, match=name):
        load(conf, runtime_params={name: value})
    (conf / "local/globals.yml").write_text(yaml.safe_dump({name: value}))
    with pytest.raises(ValidationError, match=name):
        load(conf)


@pytest.mark.parametrize("name", ["globals", "parameters"])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"gates:\n\tthreshold: 0.9", "line 2, column 1"),
        (b"gates: {}\ngates: {}", "duplicate key gates"),
        ("# 설정".encode("cp949"), "utf-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line_and_the_reason(
    conf, name, written, said
):
    path = conf / f"local/{name}.yml"
    path.write_bytes(written)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load(conf)["parameters"]
    assert str(caught.value).startswith(str(path))


def test_the_names_that_are_known_are_those_of_the_shipped_configuration():
    def shipped(file: str) -> set[str]:
        return set(yaml.safe_load((PROJECT / "conf/base" / file).read_text("utf-8")))

    assert shipped("globals.yml") == set(Globals.model_fields)
    assert shipped("parameters.yml") | shipped("contract.yml") == set(BLOCKS)
