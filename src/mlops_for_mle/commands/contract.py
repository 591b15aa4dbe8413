"""`kedro contract`: from a table to a configuration that runs."""

from pathlib import Path
from typing import Any

import click
from kedro.framework.startup import ProjectMetadata


@click.group(name="contract")
def contract_commands() -> None:
    """The contract of a table: infer it from rows."""


@contract_commands.command()
@click.option("--csv", help="A CSV file with a header, or a URL of one.")
@click.option("--parquet", help="A Parquet file, or a URL of one.")
@click.option("--excel", help="An Excel workbook (.xlsx), or a URL of one.")
@click.option("--sheet", help="Of a workbook, where it has several.")
@click.option("--json", help="A file of JSON lines, or a URL of one.")
@click.option("--table", help="A table or view, SCHEMA.TABLE where needed.")
@click.option("--query", help="One SELECT.")
@click.option("--target", required=True, help="The column to predict.")
@click.option("--name", required=True, help="Names the model, its table and its experiment.")
@click.option("--env", "-e", help="The folder of conf to write; default: the name.")
@click.option("--task", type=click.Choice(["classification", "regression"]))
@click.option("--time", help="The column that says when a row was observed.")
@click.option("--group", help="The column that rows belong together by.")
@click.option("--encoding", help="Of a CSV file; default: what it looks like.")
@click.option("--no-header", is_flag=True, help="Its first line is data; columns are c0, c1, ….")
@click.option("--decimal", type=click.Choice(["point", "comma"]), help="Of numbers.")
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
    chosen = [(kind, location) for kind, location in sources.items() if location is not None]
    if len(chosen) != 1:
        raise click.UsageError(f"Give exactly one of --{', --'.join(kinds)}.")
    ((kind, location),) = chosen
    project = Path(metadata.project_path)
    folder = write.free_folder(project, env or name, name, force=force)
    if kind in ("table", "query"):
        source = read.read_database(kind, location, name)
    else:
        source = read.read_file(project, kind, location, encoding, sheet, header=not no_header)
    if not all("=" in option for option in date_format):
        raise click.UsageError("--date-format is COLUMN=FORMAT, such as day=%d/%m/%Y.")
    click.echo("Looking at {:,} rows of {:,} columns …".format(*source.rows.shape), err=True)
    proposal = propose.propose(
        source.rows,
        name,
        target,
        source.name,
        separator=source.settings.get("csv_separator", ""),
        date_format=dict(option.split("=", 1) for option in date_format),
        **options,
    )
    click.echo(write.write(folder, proposal, source.settings))
