"""What is counted of the prediction log, and what monitoring makes of simulated traffic."""

import html
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.contract.rules import read_time
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.pipelines.monitoring.counting import count_window
from mlops_for_mle.pipelines.monitoring.options import MonitoringOptions
from mlops_for_mle.pipelines.monitoring.reference import BinnedColumn, Expectation, Reference
from mlops_for_mle.pipelines.monitoring.retraining import labelled_rows
from mlops_for_mle.releases.manifest import Release
from tests.mixed import MIXED_CONTRACT, mixed_rows
from tests.pipelines.monitoring.examples import DECISION, alarms, metric
from tests.pipelines.monitoring.traffic import Traffic, look, prediction_log
from tests.pipelines.training.examples import split
from tests.releases import (
    HOUSE_CONTRACT,
    changed,
    house_release,
    iris_release,
    iris_rows,
    mixed_release,
)
from tests.servers import query

START = datetime(2026, 5, 1, tzinfo=UTC)
IRIS, HOUSES = iris_release(1), house_release(1)
INSERT = """
INSERT INTO predictions (prediction_id, contract, release, model_version, created_at, latency_ms,
    prediction, features)
SELECT :release || to_char(number - 1, '"-"FM000'), :contract, :release, 1,
       CAST(:start AS timestamptz) + (number - 1) / 10 * interval '1 second', 1, :prediction, row
FROM jsonb_array_elements(CAST(:rows AS jsonb)) WITH ORDINALITY AS logged(row, number)
"""


def house_rows(count: int = 150, seed: int = 7) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rooms, area = random.integers(1, 9, count), random.uniform(20, 200, count)
    noise = random.normal(0, 5, count)
    return pd.DataFrame({"방 수": rooms, "area m2": area, "price": 10 * rooms + 2 * area + noise})


def log(url: str, release: Release, *rows: Any, prediction: float = 0.0) -> None:
    """Write predictions as a foreign program might, ten a second; a row may be JSON text."""
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    names = {"contract": release.manifest.contract.name, "release": release.manifest.release}
    values = {"start": START, "prediction": prediction, "rows": f"[{', '.join(texts)}]"}
    query(url, INSERT, **names, **values)


def test_twenty_windows_without_drift_raise_no_alarm_and_a_shift_does_within_one(database_url):
    traffic = Traffic(database_url, IRIS, seed=11, start=START)
    for _ in range(20):
        traffic.serve(250)
        run = look(database_url, IRIS, iris_rows(), window={"rows": 250}).run
        counts = run.prediction_count, run.labelled_count
        assert (run.status, *counts) == ("healthy", 250, 250), run.reasons

    traffic.serve(500, shift={"petal_length": 1.0}, labelled=0)

    seen = look(database_url, IRIS, iris_rows(), window={"rows": 500})
    assert seen.run.status == "alarm"
    drifted = {subject for subject, name in alarms(seen.run) if "stability" in name}
    assert "petal_length" in drifted
    assert not drifted & {"sepal_length", "sepal_width", "petal_width"}


def test_what_is_no_number_counts_as_missing(database_url):
    rows = [
        {"방 수": 3, "area m2": 100.5},
        {"방 수": 3.0, "area m2": 100.5},
        {"방 수": 2.5, "area m2": 0.5},
        {"방 수": 25, "area m2": None},
        {"방 수": "3", "area m2": [1]},
        '{"방 수": 1e-400, "area m2": 100}',
        '{"방 수": 1e400, "area m2": -1e309}',
        '{"방 수": -9, "area m2": 1e200, "unheard of": 1}',
        "[1, 2]",
    ]
    log(database_url, HOUSES, *rows, prediction=230.0)

    seen = look(database_url, HOUSES, house_rows(), window={"rows": 10_000})

    assert seen.windows[""].row_count == 9
    rooms, area, answers = seen.windows[""].columns.values()
    assert [(one.missing, sum(one.counts)) for one in (rooms, area)] == [(3, 6), (4, 5)]
    assert area.counts == area.counted(np.array([100.5, 100.5, 0.5, 100, 1e200])).counts
    assert sum(answers.counts) == 9
    assert seen.run.status == "insufficient"


def counted(url: str, release: Release, name: str, column: BinnedColumn) -> BinnedColumn:
    """Count one feature in the whole log of a release."""
    columns = {name: column, "prediction": BinnedColumn("answer", ())}
    reference = Reference(release.manifest, MonitoringOptions(), {"": columns}, Expectation())
    return count_window(reference, prediction_log(url))[""].columns[name]


def test_categories_are_counted_by_their_texts_and_others_as_unknown(database_url):
    values = ('"red"', '"red"', "3", "3.0", '"3"', "true", '"it\'s"', '"blue"', "4", "null", "[1]")
    rows = [f'{{"colour": {value}}}' for value in (*values, "{}")]
    log(database_url, HOUSES, *rows, "{}")
    colours = BinnedColumn("category", (1, 2, 3, 4), ("red", "3", "true", "it's"))

    found = counted(database_url, HOUSES, "colour", colours)

    assert (found.counts, found.missing) == ((2, 2, 3, 1, 1), 4)


TIMES = (
    "2024-02-29",
    "20260501",
    "2026-05-01 10:20",
    "2026-05-01_23:59:59.123456",
    "2026-05-01T10:20:30,5Z",
    "2026-05-01T10:20:30+09:00",
    "2026-05-01T10:20:30-0330",
    "0001-01-01",
    "9999-12-31",
    "2026-05-01T10",
)
NONSENSE = (
    *("2026-13-01", "2026-05-01T25:00", "0000-01-01", "2026-05-01T10:61", "soon", "", "infinity"),
    "2026-05-01 10:20:30 Mars/Olympus",
)


def test_times_are_read_as_the_api_reads_them_and_nonsense_stops_nothing(database_url):
    query(database_url, "ALTER ROLE CURRENT_USER SET TIME ZONE 'Asia/Seoul'")
    engine_for(database_url).dispose()
    asked = (*TIMES, *NONSENSE, 1777000000, 20260501, None)
    log(database_url, HOUSES, *({"since": one} for one in asked))
    expected = np.array([read_time(one).replace(tzinfo=UTC).timestamp() for one in TIMES])
    # Each moment has a bin of its own.
    edges = tuple(np.unique([expected - 1e-3, expected + 1e-3]).tolist())

    try:
        found = counted(database_url, HOUSES, "since", BinnedColumn("time", edges))
    finally:
        query(database_url, "ALTER ROLE CURRENT_USER RESET TIME ZONE")

    assert found.counts == found.counted(expected).counts
    assert found.missing == len(NONSENSE) + 3


def test_errors_of_a_regression_are_measured_with_their_intervals(database_url):
    source = house_rows(400)
    served = Traffic(database_url, HOUSES, seed=16, source=source, start=START).serve(400)
    errors = served.predictions - served.rows["price"].to_numpy()

    better = changed(HOUSES, metrics={"validation_rmse": 3.6})
    seen = look(database_url, better, source)

    rmse = float(np.sqrt((errors**2).mean()))
    measured = metric(seen.run, "prediction", "rmse")
    assert measured.value == pytest.approx(rmse, rel=1e-6)
    assert measured.threshold == pytest.approx(1.1 * 3.6)
    assert alarms(seen.run) == {("prediction", "rmse"), ("prediction", "estimated_rmse")}
    # The rows are those of the reference.
    assert metric(seen.run, "prediction", "estimated_rmse").value == pytest.approx(rmse, rel=0.1)
    healthy = look(database_url, HOUSES, source)
    assert healthy.run.status == "healthy", healthy.run.reasons


def test_the_window_begins_within_a_request_of_many_rows(database_url):
    log(database_url, HOUSES, *({"방 수": number, "area m2": 50} for number in range(30)))
    window = {"rows": 25, "minimum_rows": 20, "minimum_labelled": 10}

    seen = look(database_url, HOUSES, house_rows(), window=window)

    assert seen.run.prediction_count == 25
    rooms = seen.windows[""].columns["방 수"]
    assert rooms.counts == rooms.counted(np.arange(5.0, 30)).counts
    assert seen.run.window_from == START
    until = START - timedelta(hours=1)
    nothing = look(database_url, HOUSES, house_rows(), window={"until": until}).run
    # So the page and /metrics know that it looks back.
    assert (nothing.prediction_count, nothing.window_to) == (0, until)


def test_only_current_labels_of_the_release_count_however_late_they_come(database_url):
    for release in (HOUSES, house_release(2)):
        log(database_url, release, *[{"방 수": 3, "area m2": 50}] * 40, prediction=130.0)
    for revision, target, superseded in ((1, 500, "now()"), (2, 131, "NULL")):
        query(
            database_url,
            "INSERT INTO feedback (prediction_id, revision, contract, target, superseded_at) "
            f"SELECT prediction_id, {revision}, 'any', {target}, {superseded} FROM predictions "
            "WHERE created_at < :end",
            end=START + timedelta(seconds=2),
        )
    window = {"rows": 20, "minimum_rows": 20, "minimum_labelled": 10}

    seen = look(database_url, HOUSES, house_rows(), window=window)

    # The newest 20 answers have no labels; the newest that have are measured.
    assert (seen.run.prediction_count, seen.run.labelled_count) == (20, 20)
    assert seen.run.labelled_to < seen.run.window_from
    assert metric(seen.run, "prediction", "rmse").value == pytest.approx(1.0)


def test_labels_of_text_classes_are_known_by_their_names(database_url):
    """Their order or names may have been others in the contract that was served when they came."""
    release, rows = mixed_release(1), mixed_rows(200)[list(MIXED_CONTRACT.columns)]
    Traffic(database_url, release, seed=36, source=rows, start=START).serve(200)
    changes = "label = label", "target = 1 - target", "label = 'renamed', target = 1 - target"
    for change in (*changes, "label = NULL"):
        query(database_url, f"UPDATE feedback SET {change}")
        accuracy = metric(look(database_url, release, rows).run, "prediction", "accuracy").value
        assert accuracy > 0.6, change
    query(database_url, "UPDATE feedback SET label = 'gone', target = 2")
    assert {one.actual for one in look(database_url, release, rows).windows[""].rated} == {-1}


def test_names_and_values_are_data_and_never_sql(database_url):
    names = ['a "b" {1}; it\'s 100% :x %(y)s;--', "prediction"]
    raw = HOUSE_CONTRACT.model_dump() | {"name": "odd", "table": "odd"}
    raw["features"] = dict(zip(names, raw["features"].values(), strict=True))
    release = changed(HOUSES, contract=Contract.model_validate(raw))
    snapshot = house_rows().set_axis([*names, "price"], axis="columns")
    traffic = Traffic(database_url, release, seed=5, source=snapshot, start=START)
    served = traffic.serve(200, shift={names[0]: 2.0})

    seen = look(database_url, release, snapshot)

    assert seen.run.prediction_count == 200
    for name in names:
        column = seen.windows[""].columns[name]
        assert column.counts == column.counted(served.rows[name].to_numpy(float)).counts
    assert (names[0], "population_stability_index") in alarms(seen.run)
    # The feature and the answer are told apart.
    assert {"prediction", "(prediction)"} <= {one.subject for one in seen.run.metrics}
    assert all(name in html.unescape(seen.report) for name in names)


def test_predictions_of_the_future_are_a_finding_and_in_no_window(database_url):
    traffic = Traffic(database_url, IRIS, seed=31)
    traffic.serve(200)
    calm = look(database_url, IRIS, iris_rows())
    ahead = Traffic(database_url, IRIS, seed=32, start=datetime.now(UTC) + timedelta(days=3650))
    ahead.serve(100, shift={"petal_length": 3.0}, truth=lambda classes: (classes + 1) % 3)

    seen = look(database_url, IRIS, iris_rows())
    late = look(database_url, IRIS, iris_rows(), window={"until": ahead.now})

    assert metric(calm.run, "rows", "future_count").value == 0
    for one in (seen, late):
        assert (one.run.prediction_count, one.run.labelled_count) == (200, 200)
        assert one.run.window_to == one.run.labelled_to == calm.run.window_to
        assert metric(one.run, "rows", "future_count").value == 100
        assert one.run.status == "warning"
        assert "100 predictions are dated ahead of the database's clock" in one.run.reasons[0]


def test_labelled_predictions_are_rows_of_the_table_since_a_moment(database_url):
    contract = IRIS.manifest.contract
    traffic = Traffic(database_url, IRIS, seed=33, start=START)
    traffic.serve(20)
    traffic.release = changed(IRIS, release="another")
    served = traffic.serve(30, labelled=0.5)
    Traffic(database_url, IRIS, seed=34, start=datetime.now(UTC) + timedelta(days=1)).serve(5)
    query(database_url, "UPDATE feedback SET superseded_at = now() WHERE prediction_id = "
          "(SELECT max(prediction_id) FROM feedback JOIN predictions USING (prediction_id) "
          "WHERE release = 'another')")  # fmt: skip

    def ask(since: datetime | None) -> pd.DataFrame:
        decision = replace(DECISION, evidence_from=since)
        return labelled_rows(decision, prediction_log(database_url), contract)

    rows = ask(START + timedelta(seconds=20))

    expected = served.rows[served.is_labelled].iloc[:-1].reset_index(drop=True)
    seconds = 20 + np.flatnonzero(served.is_labelled)[:-1]
    assert (rows["timestamp"] == pd.Timestamp("2026-05-01") + pd.to_timedelta(seconds, "s")).all()
    pd.testing.assert_frame_equal(rows[[*contract.columns]], expected[[*contract.columns]])
    assert len(ask(None)) == 20 + len(expected)
    assert ask(datetime.now(UTC)).empty
    # Of what it belongs to a prediction tells nothing, so each is a group of its own.
    contract = Contract.model_validate({**contract.model_dump(), "group": "shop"})
    assert split(ask(None), contract, split={"by": "group"}).is_validation.any()


def test_labelled_predictions_are_read_as_the_contract_says_by_now(database_url):
    raw, target = IRIS.manifest.contract.model_dump(), IRIS.manifest.contract.target
    truth = Traffic(database_url, IRIS, seed=35, start=START).serve(40).rows["target"]

    def read(classes: Any) -> list[Any]:
        changed = Contract.model_validate({**raw, "target": {**raw["target"], "classes": classes}})
        return labelled_rows(DECISION, prediction_log(database_url), changed)["target"].tolist()

    assert read(raw["target"]["classes"]) == truth.tolist()
    # A class that is no longer known, and others that are text now, in another order.
    assert read(raw["target"]["classes"][:2]) == truth[truth < 2].tolist()
    texts = [{"value": target.labels[code]} for code in (2, 0, 1)]
    assert read(texts) == truth.map(target.labels).tolist()
