"""What `kedro contract infer` does: reads rows, proposes a contract, writes an environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops_for_mle.contract.model import Task
from mlops_for_mle.contract_inference.environment import (
    CONTRACT_FILE,
    ENVIRONMENT_FILES,
    deciding_metric,
    environment_files,
)
from mlops_for_mle.contract_inference.proposal import Proposal, Wishes, propose
from mlops_for_mle.errors import ConfigurationError, UserError

_FILE_KEYS = {"csv": "csv_path", "parquet": "parquet_path"}
_TAKEN_ENVIRONMENTS = {
    "base": "conf/base is the shipped example, which every environment builds on",
    "local": "conf/local is read by every command without --env",
    **{
        name: f"data/{name}, where its files would go, is a folder of the project's own"
        for name in (
            *("01_raw", "02_intermediate", "05_model_input", "06_models", "07_model_output"),
            *("08_reporting", "mlflow", "postgres", "releases", "serving_cache", "serving_spool"),
        )
    },
}
_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class InferenceRequest:
    """What a person asked for.

    Attributes:
        kind: ``csv``, ``parquet``, ``table`` or ``query``.
        place: The file, table or query.
        target: The column to predict.
        name: The contract's name.
        env: The folder of ``conf`` to write; None takes the name.
        task: What kind of prediction is wanted; None decides from the target.
        time: The column that says when a row was observed.
        encoding: Of a CSV file; None tells it by the file.
        leave_out: Columns that are no features.
        include: Columns that are features although they look like leaks.
        force: Whether existing files are overwritten.
    """

    kind: str
    place: str
    target: str
    name: str
    env: str | None = None
    task: Task | None = None
    time: str | None = None
    encoding: str | None = None
    leave_out: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    force: bool = False

    @property
    def environment(self) -> str:
        """The folder of ``conf``."""
        return self.env or self.name


def infer_environment(project: Path, request: InferenceRequest) -> str:
    """Write an environment for a table.

    Returns:
        What was found and what to run next, for people.

    Raises:
        UserError: The rows, the name or the environment do not allow it; nothing was written.
    """
    folder = _environment_folder(project, request.environment)
    _check_contract_name(project, request)
    if request.kind == "table" and request.place == f"{request.name}_data":
        raise ConfigurationError(
            f"--name: contract {request.name!r} would write its rows into {request.place}, the "
            "table that it reads; name another."
        )
    existing = [name for name in ENVIRONMENT_FILES if (folder / name).exists()]
    if existing and not request.force:
        raise UserError(
            f"conf/{folder.name} has {', '.join(existing)} already: name another --env, or "
            "overwrite with --force."
        )
    rows, source = read_source(project, request)
    wishes = Wishes(request.leave_out, request.include, request.time, request.task)
    proposal = propose(rows, request.name, request.target, _described(request), wishes)
    files = environment_files(proposal, source, request.environment)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        partial = folder / f"{name}.partial"
        partial.write_text(content, "utf-8")
        partial.replace(folder / name)
    return summary(proposal, request.environment, source)


def read_source(project: Path, request: InferenceRequest) -> tuple[Any, dict[str, Any]]:
    """Read the rows.

    Returns:
        The rows, and how ``globals.yml`` names where they come from.
    """
    if request.kind != "csv" and request.encoding is not None:
        raise UserError("--encoding: is for --csv only; other sources say it themselves.")
    if request.kind in _FILE_KEYS:
        place = _place(project, request)
        # Kedro takes the path for one of the project's; this command may be called elsewhere.
        found = place if "://" in place else str(project / place)
        rows, form = _read_file(found, request)
        return rows, {"source": request.kind, _FILE_KEYS[request.kind]: place, **form}
    from mlops_for_mle.database import database_url
    from mlops_for_mle.pipelines.data_ingestion.postgres import PostgresSourceDataset

    table, query = (request.place, None) if request.kind == "table" else (None, request.place)
    rows = PostgresSourceDataset({"con": database_url()}, table, query).load()
    _require_own_table(database_url(), request.name)
    return rows, {"source": request.kind, f"source_{request.kind}": request.place}


def _read_file(place: str, request: InferenceRequest) -> tuple[Any, dict[str, str]]:
    """The rows of a file, and what ``globals.yml`` says of how it is written."""
    import fsspec

    from mlops_for_mle.pipelines.data_ingestion.sources import (
        FileSourceDataset,
        guess_csv_form,
    )

    if request.kind == "parquet":
        return FileSourceDataset("parquet", place).load(), {}
    with fsspec.open(place, "rb", compression="infer") as file:
        form = guess_csv_form(file.read(), request.encoding)
    unusual = form.model_dump(exclude_defaults=True)
    rows = FileSourceDataset("csv", place, unusual).load()
    return rows, {f"csv_{key}": value for key, value in unusual.items()}


def _require_own_table(url: str, contract: str) -> None:
    """Check that the contract's table is not one that somebody else has filled.

    A query may read that very table, and each run would write its rows into it once more.

    Raises:
        ConfigurationError: It is.
    """
    from sqlalchemy import inspect, text

    from mlops_for_mle.contract.tables import quoted
    from mlops_for_mle.database import reachable

    name = f"{contract}_data"
    with reachable(url) as engine, engine.connect() as connection:
        known = inspect(connection)
        if not known.has_table(name):
            return
        is_filled = connection.scalar(text(f"SELECT EXISTS (SELECT FROM {quoted(name)})"))  # noqa: S608
        is_ours = known.has_table("ingestion_batches") and connection.scalar(
            text("SELECT EXISTS (SELECT FROM ingestion_batches WHERE table_name = :name)"),
            {"name": name},
        )
    if is_filled and not is_ours:
        raise ConfigurationError(
            f"--name: contract {contract!r} would write its rows into {name}, a table that holds "
            "rows of others; name another."
        )


def summary(proposal: Proposal, env: str, source: Mapping[str, Any]) -> str:
    """Say in a few lines what was found and what to run."""
    keys = ("csv_encoding", "csv_separator", "csv_decimal")
    unusual = [f"{key}: {source[key]}" for key in keys if key in source]
    form = f", read with {', '.join(unusual)}" if unusual else ""
    target = proposal.target
    what = (
        f"{len(target.counts)} classes of {target.column.name}"
        if target.task == "classification"
        else f"regression of {target.column.name}"
    )
    lines = [
        ("contract", f"conf/{env}/{CONTRACT_FILE}, to review"),
        ("rows", f"{proposal.row_count:,} from {proposal.source}{form}"),
        ("target", f"{what}, decided by {deciding_metric(proposal)}"),
        ("features", f"{len(proposal.features)}"),
        *(("left out", f"{one.name} {one.reason}") for one in proposal.left_out),
        ("run it", f"kedro run --env {env}"),
        ("serve it", f"kedro serve --env {env}"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in lines)


def _environment_folder(project: Path, env: str) -> Path:
    if not _ENVIRONMENT.fullmatch(env):
        raise ConfigurationError(
            f"--env: expected letters, digits, _ and - only, as the name of a folder of conf "
            f"(found {env!r})"
        )
    if env.lower() in _TAKEN_ENVIRONMENTS:
        raise ConfigurationError(
            f"--env: {_TAKEN_ENVIRONMENTS[env.lower()]}; name another, such as the contract's name."
        )
    return project / "conf" / env


def _check_contract_name(project: Path, request: InferenceRequest) -> None:
    """Two environments with one contract name would share a table, a model and its releases."""
    for path in sorted((project / "conf").glob(f"*/{CONTRACT_FILE}")):
        if path.parent.name == request.environment:
            continue
        if _contract_name(path) == request.name:
            raise ConfigurationError(
                f"--name: conf/{path.parent.name} has a contract {request.name!r} already, whose "
                "table and model it would share; name another."
            )


def _contract_name(path: Path) -> Any:
    """The name in a file of somebody else's; None where there is none."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigurationError(
            f"conf/{path.parent.name}/{path.name}: cannot be read as YAML{where}, so it cannot be "
            "told whether it has a contract of this name; correct or remove it."
        ) from None
    contract = content.get("contract") if isinstance(content, dict) else None
    return contract.get("name") if isinstance(contract, dict) else None


def _described(request: InferenceRequest) -> str:
    if request.kind == "query":
        return "the query"
    return f"table {request.place}" if request.kind == "table" else Path(request.place).name


def _place(project: Path, request: InferenceRequest) -> str:
    """A file as the catalog finds it, wherever the command was called."""
    if "://" in request.place:
        return request.place
    path = Path(request.place).expanduser().resolve()
    return str(path.relative_to(project) if path.is_relative_to(project) else path)
