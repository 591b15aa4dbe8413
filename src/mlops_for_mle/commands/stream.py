"""`kedro stream`: the tutorial's data generator, one random row a second unless told otherwise."""

import functools
import logging
from datetime import timedelta

import click
from kedro.framework.startup import ProjectMetadata

from mlops_for_mle.commands.options import Duration, env_option


@click.command()
@env_option
@click.option("--rows", default=1, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--every", default="1s", show_default=True, type=Duration(), help="Such as 250ms.")
@click.option("--batches", default=None, type=click.IntRange(1), help="Stop after so many batches.")
@click.option("--seed", default=None, type=click.IntRange(0), help="Draw the same rows again.")
@click.pass_obj
def stream(
    metadata: ProjectMetadata,
    env: str | None,
    rows: int,
    every: timedelta,
    batches: int | None,
    seed: int | None,
) -> None:
    """Write random rows into the table of observations until stopped with Ctrl-C."""
    from kedro.io import DataCatalog

    from mlops_for_mle import database
    from mlops_for_mle.commands.project import read_configuration
    from mlops_for_mle.configuration import parse_configuration
    from mlops_for_mle.contract import Contract
    from mlops_for_mle.pipelines.data_ingestion.nodes import sort_rows, standardise_columns
    from mlops_for_mle.pipelines.data_ingestion.options import IngestionOptions
    from mlops_for_mle.stop_signal import StopSignal
    from mlops_for_mle.streaming import StreamPlan, stream_batches

    configuration = read_configuration(metadata.project_path, env)
    contract = Contract.model_validate(configuration["parameters"]["contract"])
    options = parse_configuration(
        IngestionOptions, configuration["parameters"].get("ingestion"), "ingestion"
    )
    entry = configuration["catalog"]["stream_rows"]
    catalog = DataCatalog.from_config({"stream_rows": entry}, configuration["credentials"])
    source_rows = catalog.load("stream_rows")
    standardised = standardise_columns(source_rows, contract, options)
    database.prepare(database.database_url(), contract)

    stopping = StopSignal()
    stopping.catch_signals()
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)
    click.echo(f"Writing {rows} row(s) every {every.total_seconds():g} s into {contract.table}.")
    written = stream_batches(
        contract,
        standardised,
        functools.partial(sort_rows, contract=contract, ingestion=options),
        database.database_url,
        StreamPlan(rows, every, batches, seed),
        stopping,
    )
    click.echo(f"Stopped after {written} row(s).")
