"""`kedro stream`: the tutorial's data generator, one random row a second unless told otherwise."""

from datetime import timedelta
from functools import partial

import click
from kedro.io import DataCatalog

from mlops_for_mle.commands.project import Project, duration, until_stopped, with_project
from mlops_for_mle.database.engine import database_url
from mlops_for_mle.database.schema import prepare
from mlops_for_mle.pipelines.data_ingestion.generator import stream_batches
from mlops_for_mle.pipelines.data_ingestion.nodes import IngestionOptions, to_contract


@click.command()
@with_project
@click.option("--rows", default=1, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--every", default="1s", show_default=True, type=duration(), help="Such as 250ms.")
@click.option("--batches", default=None, type=click.IntRange(1), help="Stop after so many batches.")
@click.option("--seed", default=None, type=click.IntRange(0), help="Draw the same rows again.")
def stream(
    project: Project, rows: int, every: timedelta, batches: int | None, seed: int | None
) -> None:
    """Write random rows into the table of observations until stopped with Ctrl-C."""
    contract, configuration = project.contract, project.configuration
    options = IngestionOptions.model_validate(project.parameters.get("ingestion"))
    entry = {"source_rows": configuration["catalog"]["source_rows"]}
    source = DataCatalog.from_config(entry, configuration["credentials"]).load("source_rows")
    drawn_from, *_ = to_contract(source, contract, options)
    prepare(database_url(), contract)

    stopping = until_stopped()
    click.echo(f"Writing {rows} row(s) every {every.total_seconds():g} s into {contract.table}.")
    drawn = partial(stream_batches, drawn_from, contract, options, stopping)
    written, rejected = drawn(size=rows, every=every, batches=batches, seed=seed)
    others = f"; {rejected} others were rejected, see table rejected_rows" if rejected else ""
    click.echo(f"Stopped after {written} row(s){others}.")
