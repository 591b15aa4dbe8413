"""Writes ``docs/reference`` out of the code: ``python docs/site/reference.py [FOLDER]``.

Every page stands there in English and in Korean; what the code says in English is looked up in
``reference.ko.yml``, and a text that is missing there ends it.
"""

import inspect
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
SOURCE = PROJECT / "src/mlops_for_mle"
LANGUAGES = ("en", "ko")

# Read somewhere else than in the server's settings; `variables_of_source` finds new ones.
VARIABLES = {
    "MLOPS_PROJECT_PATH": "The project's folder, with `conf` and `data`.",
    "DATABASE_URL": "PostgreSQL 15 to 18, as `postgresql://user:password@host:port/database`, of "
    "several hosts `postgresql://user:password@/database?host=one:5432&host=two:5432`; "
    "without it the embedded server in `data/postgres` is used.",
    "SOURCE_DATABASE_URL": "Another database for the sources `table` and `query`.",
    "MLFLOW_TRACKING_URI": "An MLflow server; without it a database `mlflow` beside the project's.",
    "MLOPS_ARTIFACT_LOCATION": "Where MLflow's artifacts go while no server is named; a folder of "
    "the project by default.",
    "MLOPS_ACTOR": "Who deploys, for the audit trail; the name of the user by default.",
    "MLOPS_CODE_REVISION": "The commit that an image was built from, noted in every run.",
    "MLOPS_ALERT_WEBHOOK": "A URL that `kedro watch` sends each new decision to, as JSON.",
    "MLOPS_PUBLIC_API": "Where people reach the API, for links in summaries and reports.",
    "MLOPS_PUBLIC_MLFLOW": "Where people reach MLflow's page, for links to runs.",
    "KEDRO_ENV": "The environment of `conf` that commands use without `--env`.",
    "KAFKA_BOOTSTRAP_SERVERS": "The brokers of `kedro score-topic`, such as `localhost:9092`.",
    "KAFKA_GROUP_ID": "Its consumer group.",
    "KAFKA_…": "Properties of librdkafka for it: `KAFKA_SASL_USERNAME` is `sasl.username`.",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "Where traces go (extra `tracing`); without it nothing is "
    "traced.",
}
# Set by the project for the programs that it starts, unless a person has set them.
NOT_FOR_PEOPLE = re.compile(
    r"(DO_NOT_TRACK|KEDRO_DISABLE|MLFLOW_(?!TRACKING_URI)|OTEL_(?!EXPORTER_OTLP_ENDPOINT))"
)


class Page:
    """A page in one language."""

    def __init__(self, title: str, language: str, korean: dict[str, str]) -> None:
        self._korean = korean if language == "ko" else None
        self.missing: list[str] = []
        self.lines = [f"# {self.say(title)}", ""]

    def say(self, text: str) -> str:
        """A text of ours in the page's language."""
        if self._korean is None or not re.search("[a-z]{2}", text):
            return text
        if text not in self._korean:
            self.missing.append(text)
        return self._korean.get(text, text)

    def add(self, *blocks: str) -> None:
        """Add paragraphs or headings."""
        self.lines += [part for block in blocks for part in (block, "")]

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; its headings are said in the page's language."""
        for row in (tuple(map(self.say, headings)), ("---",) * len(headings), *rows):
            cells = (cell.replace("|", "\\|") for cell in row)
            self.lines.append(f"| {' | '.join(cells)} |")
        self.lines.append("")


def described(model: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """What a class's docstring says of it, and of its attributes."""
    text, _, attributes = (inspect.getdoc(model) or "").partition("\nAttributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", attributes, re.MULTILINE)
    return _one_line(text), {name: _one_line(words) for name, words in found}


def fields(page: Page, model: type[BaseModel], path: str, seen: list[type[BaseModel]]) -> None:
    """A section for a class, and for those of its fields."""
    if model in seen:
        return
    seen.append(model)
    schema = model.model_json_schema()
    words, attributes = described(model)
    page.add(f"## `{path}`", page.say(words))
    rows = []
    for name, one in schema.get("properties", {}).items():
        field = model.model_fields[name]
        default = "" if field.is_required() else _default(field)
        meaning = one.get("description") or attributes.get(name, "")
        rows.append((f"`{name}`", _kind(one, schema), default, page.say(_one_line(meaning))))
    page.table(("key", "value", "default", "meaning"), rows)
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            fields(page, inner, f"{path}.{name}", seen)


def contract(page: Page) -> None:
    """What may stand in ``contract.yml``."""
    from mlops_for_mle.contract import Contract

    page.add(page.say("It stands in `conf/base/contract.yml`, or whole in another environment."))
    fields(page, Contract, "contract", [])


def parameters(page: Page) -> None:
    """What may stand in ``parameters.yml``, by block."""
    from mlops_for_mle.pipelines.data_ingestion.nodes import IngestionOptions
    from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions, RetrainingOptions
    from mlops_for_mle.pipelines.registry.nodes import GateOptions
    from mlops_for_mle.pipelines.scoring.nodes import ScoringOptions
    from mlops_for_mle.pipelines.training.options import DataCheckOptions, TrainingOptions

    blocks: dict[str, type[BaseModel]] = {
        "ingestion": IngestionOptions, "data_checks": DataCheckOptions,
        "training": TrainingOptions, "gates": GateOptions, "monitoring": MonitoringOptions,
        "retraining": RetrainingOptions, "scoring": ScoringOptions,
    }  # fmt: skip
    seen: list[type[BaseModel]] = []
    page.add(page.say("An environment says only what differs from `conf/base`."))
    for name, block in blocks.items():
        fields(page, block, name, seen)
    for name in ("parameters", "globals"):
        text = (PROJECT / f"conf/base/{name}.yml").read_text("utf-8")
        page.add(f"## `conf/base/{name}.yml`", f"```yaml\n{text.rstrip()}\n```")


def environment(page: Page) -> None:
    """Every environment variable that a person may set."""
    from mlops_for_mle.serving.settings import PREFIX, ServingSettings

    listed = [(f"`{name}`", page.say(words)) for name, words in VARIABLES.items()]
    page.table(("variable", "meaning"), listed)
    page.add(f"## {page.say('The prediction API')}")
    page.add(page.say("Each is an option too, such as `--port` for `MLOPS_PORT`."))
    schema, rows = ServingSettings.model_json_schema(), []
    for name, one in schema["properties"].items():
        field = ServingSettings.model_fields[name]
        meaning = page.say(_one_line(field.description or ""))
        row = (f"`{PREFIX}{name.upper()}`", _kind(one, schema), _default(field), meaning)
        rows.append(row)
    page.table(("variable", "value", "default", "meaning"), rows)
    page.add(page.say("The stack in Docker has its own, which `.env.example` explains."))


def commands(page: Page) -> None:
    """What the commands say with ``--help``."""
    from mlops_for_mle.cli import cli
    from mlops_for_mle.serving.keys import commands as keys

    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        if name != "run" and command is not None:
            for path, text in _helps(command, f"kedro {name}"):
                page.add(f"## `{path}`", f"```text\n{text}\n```")
    for path, text in _helps(keys, "python -m mlops_for_mle.serving.keys"):
        page.add(f"## `{path}`", f"```text\n{text}\n```")


def http(page: Page) -> None:
    """Every route of the API."""
    from starlette.testclient import TestClient

    from mlops_for_mle.serving.app import create_app
    from mlops_for_mle.serving.services import Services
    from mlops_for_mle.serving.settings import ServingSettings

    with tempfile.TemporaryDirectory() as folder:
        services = Services(ServingSettings(spool=folder))
        # Not entered, so that nothing of it starts.
        document = TestClient(create_app(services), base_url="http://localhost").get(
            "/openapi.json"
        )
    page.add(page.say("A running server shows bodies and answers of its contract at `/docs`."))
    rows = [
        (f"`{method.upper()} {path}`", one.get("summary", ""), ", ".join(sorted(one["responses"])))
        for path, operations in document.json()["paths"].items()
        for method, one in operations.items()
    ]
    page.table(("route", "what it does", "answers"), rows)


def catalog(page: Page) -> None:
    """Every entry of the catalog."""
    os.environ.setdefault("DATABASE_URL", "postgresql://nobody@localhost/none")
    from kedro.io.core import parse_dataset_definition

    from mlops_for_mle.config import ProjectConfigLoader
    from mlops_for_mle.settings import CONFIG_LOADER_ARGS

    options = CONFIG_LOADER_ARGS | {"default_run_env": "base"}
    loader = ProjectConfigLoader(str(PROJECT / "conf"), **options)
    rows = []
    for name, entry in loader["catalog"].items():
        if not name.startswith("_"):
            kind, _ = parse_dataset_definition({"type": entry["type"]})
            inner = entry.get("dataset", {})
            inner = inner.get("type", "") if isinstance(inner, dict) else inner
            layer = entry.get("metadata", {}).get("kedro-viz", {}).get("layer", "")
            words = page.say(_first_sentence(kind)) if "mlops_for_mle" in entry["type"] else ""
            dataset = f"`{entry['type']}`" + (f" (`{inner}`)" if inner else "")
            rows.append((f"`{name}`", dataset, layer, words))
    page.table(("entry", "dataset", "layer", "what it holds"), rows)


PAGES = {
    "contract": ("The contract", contract),
    "parameters": ("Parameters", parameters),
    "environment": ("Environment variables", environment),
    "commands": ("Commands", commands),
    "http": ("The HTTP API", http),
    "catalog": ("The catalog", catalog),
}


def variables_of_source() -> set[str]:
    """The names of environment variables that stand in the source."""
    prefixes = "MLOPS|KAFKA|SOURCE|DATABASE|MLFLOW|OTEL|KEDRO"
    found = {
        name
        for path in SOURCE.rglob("*.py")
        for name in re.findall(rf'"((?:{prefixes})_[A-Z][A-Z_]+)"', path.read_text("utf-8"))
    }
    return {name for name in found if not NOT_FOR_PEOPLE.match(name)}


def write(folder: Path) -> None:
    """Write all pages in both languages."""
    korean = yaml.safe_load((HERE / "reference.ko.yml").read_text("utf-8")) or {}
    folder.mkdir(parents=True, exist_ok=True)
    missing: dict[str, None] = {}
    for name, (title, fill) in PAGES.items():
        for language in LANGUAGES:
            page = Page(title, language, korean)
            fill(page)
            suffix = "" if language == "en" else f".{language}"
            text = "\n".join(page.lines).rstrip() + "\n"
            (folder / f"{name}{suffix}.md").write_text(text, "utf-8")
            missing |= dict.fromkeys(page.missing)
    if missing:
        listed = yaml.safe_dump(dict.fromkeys(missing, ""), allow_unicode=True, width=1000)
        sys.exit(f"{HERE / 'reference.ko.yml'} lacks:\n{listed}")


def _helps(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
    with click.Context(command, info_name=path, max_content_width=96, terminal_width=96) as context:
        yield path, command.get_help(context).rstrip()
    if isinstance(command, click.Group) and path != "kedro mlflow":
        for name, inner in sorted(command.commands.items()):
            yield from _helps(inner, f"{path} {name}")


def _kind(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """What a value may be, out of a JSON schema."""
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one, root) for one in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    kind = str(schema.get("type", "any")).replace("object", "mapping").replace("array", "list")
    limits = (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    )
    told = [f"{sign} {schema[name]:g}" for name, sign in limits if name in schema]
    return f"{kind} {', '.join(told)}".strip()


def _default(field: Any) -> str:
    value = field.default
    if field.default_factory is not None or isinstance(value, BaseModel):
        return ""
    if value is None:
        return "`null`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models(inner)


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _first_sentence(kind: type) -> str:
    return _one_line((inspect.getdoc(kind) or "").partition("\n\n")[0])


if __name__ == "__main__":
    # Drops what only libraries can mend.
    import mlops_for_mle.settings  # noqa: F401

    warnings.filterwarnings("ignore", module=r"starlette|__main__")
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "docs/reference")
