"""`kedro contract`: from a table to a configuration that runs."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from kedro.framework.startup import ProjectMetadata

if TYPE_CHECKING:
    from mlops_for_mle.contract.infer.propose import Proposal

# An environment keeps its files in data/ENV, beside the project's own folders.
_TAKEN = r"base|local|mlflow|postgres|releases|serving_.*|\d\d_.*"


@click.group(name="contract")
def contract_commands() -> None:
    """The contract of a table: infer it from rows."""


@contract_commands.command()
@click.option("--csv", default=None, help="A CSV file with a header, or a URL of one.")
@click.option("--parquet", default=None, help="A Parquet file, or a URL of one.")
@click.option("--excel", default=None, help="An Excel workbook (.xlsx), or a URL of one.")
@click.option("--sheet", default=None, help="Of a workbook, where it has several.")
@click.option("--json", default=None, help="A file of JSON lines, or a URL of one.")
@click.option("--table", default=None, help="A table or view, SCHEMA.TABLE where needed.")
@click.option("--query", default=None, help="One SELECT.")
@click.option("--target", required=True, help="The column to predict.")
@click.option("--name", required=True, help="Names the model, its table and its experiment.")
@click.option("--env", "-e", default=None, help="The folder of conf to write; default: the name.")
@click.option("--task", type=click.Choice(["classification", "regression"]), default=None)
@click.option("--time", default=None, help="The column that says when a row was observed.")
@click.option("--encoding", default=None, help="Of a CSV file; default: what it looks like.")
@click.option("--no-header", is_flag=True, help="Its first line is data; columns are c0, c1, ….")
@click.option("--decimal", type=click.Choice(["point", "comma"]), default=None, help="Of numbers.")
@click.option("--date-format", multiple=True, help="COLUMN=FORMAT, such as day=%d/%m/%Y.")
@click.option("--missing", multiple=True, help="Stands for a missing value; may be repeated.")
@click.option("--drop-missing-target", is_flag=True, help="Rows without a target are no mistakes.")
@click.option("--minimum-class-rows", type=click.IntRange(2), default=5, show_default=True)
@click.option("--leave-out", multiple=True, help="A column that is no feature; may be repeated.")
@click.option("--force", is_flag=True, help="Overwrite the environment's files.")
@click.pass_obj
def infer(
    metadata: ProjectMetadata,
    /,
    target: str,
    name: str,
    env: str | None,
    encoding: str | None,
    no_header: bool,
    sheet: str | None,
    date_format: tuple[str, ...],
    force: bool,
    **options: Any,
) -> None:
    """Propose the contract of a table, and an environment that runs with it.

    Reads the rows, decides types, ranges, categories and what to do where values are missing,
    leaves out identifiers and columns that give the target away, and writes conf/ENV with its
    reasons as comments. Nothing is overwritten without --force. A table or query is one of the
    database that SOURCE_DATABASE_URL names, else of the project's own.
    """
    from mlops_for_mle.contract.infer import propose, read, write

    kinds = ("csv", "parquet", "excel", "json", "table", "query")
    sources = {kind: options.pop(kind) for kind in kinds}
    given = [(kind, place) for kind, place in sources.items() if place is not None]
    if len(given) != 1:
        raise click.UsageError(f"Give exactly one of --{', --'.join(kinds)}.")
    ((kind, place),) = given
    project = Path(metadata.project_path)
    folder = _free_folder(project, env or name, name, force)
    if kind in ("table", "query"):
        source = read.read_database(kind, place, name)
    else:
        source = read.read_file(project, kind, place, encoding, sheet, header=not no_header)
    if not all("=" in one for one in date_format):
        raise click.UsageError("--date-format is COLUMN=FORMAT, such as day=%d/%m/%Y.")
    proposal = propose.propose(
        source.rows,
        name,
        target,
        source.described,
        separator=source.choices.get("csv_separator", ""),
        date_format=dict(one.split("=", 1) for one in date_format),
        **options,
    )
    comma = proposal.ingestion.pop("decimal", None)
    choices = source.choices | ({"csv_decimal": comma} if comma else {})
    write.write(folder, proposal, choices)
    click.echo(_summary(proposal, folder.name, choices))


def _free_folder(project: Path, env: str, contract: str, force: bool) -> Path:
    """The folder of ``conf`` that a new environment may have, else an error that says why not."""
    from mlops_for_mle.contract.infer.write import CONTRACT_FILE, FILES
    from mlops_for_mle.errors import ConfigurationError, UserError

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", env) or re.fullmatch(_TAKEN, env, re.I):
        raise ConfigurationError(
            f"--env: expected letters, digits, _ and -, and no folder of the project's own in conf "
            f"or data (found {env!r})"
        )
    for path in (project / "conf").glob(f"*/{CONTRACT_FILE}"):
        content = yaml.safe_load(path.read_text("utf-8"))
        if content["contract"]["name"] == contract and path.parent.name != env:
            raise ConfigurationError(
                f"--name: conf/{path.parent.name} has a contract {contract!r} already, whose table "
                "and model it would share; name another."
            )
    folder = project / "conf" / env
    existing = [name for name in FILES if (folder / name).exists()]
    if existing and not force:
        raise UserError(
            f"conf/{env} has {', '.join(existing)} already: name another --env, or overwrite with "
            "--force."
        )
    return folder


def _summary(proposal: "Proposal", env: str, choices: dict[str, Any]) -> str:
    """Say in a few lines what was found and what to run."""
    from mlops_for_mle.config import yaml_value
    from mlops_for_mle.contract.infer.write import CONTRACT_FILE, gates

    form = {key: value for key, value in choices.items() if key.startswith("csv_")}
    how = ", ".join(f"{key}: {yaml_value(form[key])}" for key in form if key != "csv_path")
    column, classes = proposal.target.name, proposal.class_counts
    what = f"{len(classes)} classes of {column}" if classes else f"regression of {column}"
    lines = [
        ("contract", f"conf/{env}/{CONTRACT_FILE}, to review"),
        ("rows", f"{proposal.row_count:,} from {proposal.source}{how and f', read with {how}'}"),
        *(("rejected", f"{len(proposal.unread)}: {one}") for one in proposal.unread[:1]),
        ("target", f"{what}, decided by {gates(proposal)['metric']}"),
        ("features", f"{len(proposal.features)}"),
        *(("left out", f"{one.source_name} {one.left_out}") for one in proposal.left_out),
        ("run it", f"kedro run --env {env}"),
        ("serve it", f"kedro serve --env {env}"),
    ]
    return "\n".join(f"  {name:<8}  {value}" for name, value in lines)
