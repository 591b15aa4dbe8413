import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mlops_for_mle.contract import Contract
from mlops_for_mle.database import engine_for
from mlops_for_mle.errors import UserError
from mlops_for_mle.serving.http.problems import ProblemError
from mlops_for_mle.serving.prediction_log.recorder import SpoolingRecorder
from mlops_for_mle.serving.settings import ServingSettings
from tests.serving.conftest import wait_until
from tests.serving.prediction_log.test_prediction_spool import (
    answered,
    append,
    prediction_frame,
    release_frame,
)

pytestmark = pytest.mark.integration


class PredictionTable:
    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, columns: str = "*") -> list[dict[str, Any]]:
        with engine_for(self._url).connect() as connection:
            found = connection.execute(text(f"SELECT {columns} FROM predictions ORDER BY 1"))
            return [dict(row) for row in found.mappings()]

    def ids(self) -> list[str]:
        return [row["prediction_id"] for row in self.rows("prediction_id")]


@pytest.fixture
def table(database) -> PredictionTable:
    database.run("TRUNCATE predictions")
    return PredictionTable(database.url)


@pytest.fixture
def make_recorder(tmp_path, table):
    made: list[SpoolingRecorder] = []

    def make(**options: Any) -> SpoolingRecorder:
        given = {"project_path": tmp_path, "ship_seconds": 0.05, "retry_seconds": 0.2}
        made.append(SpoolingRecorder(ServingSettings.load(given | options)))
        return made[-1]

    yield make
    for one in made:
        one.stop(5)


def test_a_prediction_is_in_the_table_with_all_that_is_known_of_it(make_recorder, table, iris):
    recorder = make_recorder()
    recorder.start()
    one = answered(iris, request_id="order 17", answered_at=1_790_000_000_123_456_789)

    recorder.record(one)

    [row] = wait_until(table.rows)
    names = iris.manifest.contract.feature_names
    value = one.predictions.values.item()
    assert row["prediction_id"] == one.prediction_id
    assert row["created_at"].timestamp() == pytest.approx(1_790_000_000.123456, abs=1e-6)
    assert row["contract"] == "iris"
    assert row["release"] == iris.manifest.release
    assert row["model_version"] == 1
    assert row["features"] == dict(zip(names, one.rows[0].tolist(), strict=True))
    assert row["prediction"] == value
    assert row["label"] == ("setosa", "versicolor", "virginica")[value]
    assert one.predictions.probabilities is not None
    assert row["probabilities"] == one.predictions.probabilities[0].tolist()
    assert row["latency_ms"] == pytest.approx(1.2)
    assert row["request_id"] == "order 17"


def test_each_row_of_a_request_has_its_own_id(make_recorder, table, houses):
    recorder = make_recorder()
    recorder.start()
    many = answered(houses, 12_000)

    recorder.record(many)

    wait_until(lambda: recorder.status().shipped == 12_000)
    rows = {row["prediction_id"]: row for row in table.rows()}
    assert len(rows) == 12_000
    for index in (0, 7, 11_999):
        row = rows[f"{many.prediction_id}-{index}"]
        features = dict(zip(("방 수", "area m2"), many.rows[index].tolist(), strict=True))
        assert row["features"] == features
        assert row["prediction"] == many.predictions.values[index]
        assert row["label"] is None
        assert row["probabilities"] is None
        assert row["request_id"] is None


def test_names_and_labels_may_be_any_text(make_recorder, table, iris):
    name, label = '100% "of" it\'s\\ a field,{0} %s', "50%\n'x' \\. \x01\x02"
    raw = iris.manifest.contract.model_dump()
    features = dict(zip((name, "b", "c", "d"), raw["features"].values(), strict=True))
    target = raw["target"] | {
        "classes": [{"value": 0, "label": label}, *raw["target"]["classes"][1:]]
    }
    contract = Contract.model_validate(raw | {"features": features, "target": target})
    manifest = iris.manifest.model_copy(update={"contract": contract})
    one = answered(iris, manifest=manifest)
    one.predictions.values[0] = 0
    recorder = make_recorder()
    recorder.start()

    recorder.record(one)

    [row] = wait_until(table.rows)
    assert row["features"][name] == one.rows[0, 0]
    assert row["label"] == label


def test_rows_that_were_committed_are_not_doubled_when_they_are_shipped_again(
    make_recorder, table, iris
):
    first, second = answered(iris), answered(iris, 3)
    recorder = make_recorder()
    recorder.start()
    recorder.record(first)
    wait_until(table.ids)
    recorder.stop(5)
    # What a process leaves that was killed between the commit and the removal of the segment.
    leftover = recorder._root / "999999-killed"
    leftover.mkdir()
    segment = leftover / "0000000001.segment"
    segment.write_bytes(release_frame(first) + prediction_frame(first) + prediction_frame(second))

    another = make_recorder()
    another.start()

    wait_until(lambda: not leftover.exists())
    expected = [first.prediction_id, *(f"{second.prediction_id}-{index}" for index in range(3))]
    assert table.ids() == sorted(expected)


def test_predictions_wait_while_the_database_is_away(make_recorder, table, iris, monkeypatch):
    available = os.environ["DATABASE_URL"]
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:hidden@127.0.0.1:1/nothing")
    recorder = make_recorder()
    recorder.start()
    given = [answered(iris) for _ in range(50)]
    for one in given:
        recorder.record(one)
    reason = wait_until(lambda: recorder.status().database_error)
    assert "127.0.0.1:1" in reason
    assert "hidden" not in reason
    assert recorder.status().stored_bytes > 0
    assert table.ids() == []

    monkeypatch.setenv("DATABASE_URL", available)

    wait_until(lambda: recorder.status().shipped == 50)
    assert table.ids() == sorted(one.prediction_id for one in given)
    wait_until(lambda: recorder.status().stored_bytes == 0)
    assert recorder.status().database_error is None


def test_a_database_without_the_table_is_told_in_a_sentence(make_recorder, database, table, iris):
    database.run("ALTER TABLE predictions RENAME TO hidden_predictions")
    try:
        recorder = make_recorder()
        recorder.start()
        recorder.record(answered(iris))
        assert "kedro db upgrade" in wait_until(lambda: recorder.status().database_error)
    finally:
        database.run("ALTER TABLE hidden_predictions RENAME TO predictions")
    wait_until(table.ids)


@pytest.mark.parametrize("policy", ["refuse", "drop"])
def test_a_full_spool_does_what_was_configured(make_recorder, table, iris, monkeypatch, policy):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    recorder = make_recorder(spool_max_bytes=65536, spool_when_full=policy)
    recorder.start()
    refused: list[ProblemError] = []
    for _ in range(1000):
        try:
            recorder.record(answered(iris))
        except ProblemError as problem:
            refused.append(problem)

    status = recorder.status()
    assert status.stored_bytes <= 65536
    assert 100 < status.recorded < 1000
    lost = 1000 - status.recorded
    assert (status.refused, status.dropped) == ((lost, 0) if policy == "refuse" else (0, lost))
    assert [one.status for one in refused] == [503] * status.refused
    assert all("Retry-After" in one.headers for one in refused)


def test_a_graceful_stop_ships_everything(make_recorder, table, iris):
    recorder = make_recorder(ship_seconds=600)
    recorder.start()
    time.sleep(0.3)
    given = [answered(iris) for _ in range(500)]
    for one in given:
        recorder.record(one)

    recorder.stop(5)

    assert table.ids() == sorted(one.prediction_id for one in given)
    assert [path.name for path in recorder._root.iterdir()] == ["lock"]


def test_a_stop_ends_in_time_while_the_table_is_locked(make_recorder, table, database, iris):
    recorder = make_recorder()
    recorder.start()
    with engine_for(database.url).begin() as connection:
        connection.execute(text("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE"))
        recorder.record(answered(iris))
        time.sleep(0.2)
        started = time.monotonic()
        recorder.stop(0.3)
        assert time.monotonic() - started < 1
        assert list(recorder._root.rglob("*.segment"))
    wait_until(table.ids)


def test_several_threads_record_at_once(make_recorder, table, iris):
    recorder = make_recorder()
    recorder.start()
    given = [[answered(iris, 1 + number % 3) for number in range(200)] for _ in range(4)]

    def record(part: list[Any]) -> None:
        for one in part:
            recorder.record(one)

    threads = [threading.Thread(target=record, args=(part,)) for part in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    total = sum(len(one.rows) for part in given for one in part)
    wait_until(lambda: recorder.status().shipped == total)
    assert len(table.ids()) == total


def test_a_row_that_the_database_refuses_is_kept_aside_and_holds_up_no_other(
    make_recorder, table, iris, caplog
):
    recorder = make_recorder()
    recorder.start()
    good = [answered(iris) for _ in range(20)]
    # No server lets such a text through, so this one goes past the recorder.
    bad = answered(iris, prediction_id="\0")
    for one in (*good[:10], bad, *good[10:]):
        append(recorder._spool, one)

    wait_until(lambda: len(table.ids()) == 20)
    rejects = recorder._root / "rejected.jsonl"
    assert wait_until(rejects.read_bytes).count(b"\n") == 1
    assert any("refuses a prediction" in one.getMessage() for one in caplog.records)


def test_an_altered_segment_is_kept_for_people(make_recorder, table, iris, caplog):
    one, other = answered(iris), answered(iris)
    folder = make_recorder()._root / "999999-killed"
    folder.mkdir(parents=True)
    content = bytearray(release_frame(one) + prediction_frame(one) + prediction_frame(other))
    content[-10] ^= 1
    (folder / "0000000001.segment").write_bytes(content)
    caplog.set_level(logging.ERROR)

    recorder = make_recorder()
    recorder.start()

    kept = wait_until(lambda: list(recorder._root.glob("*.damaged")))
    assert Path(kept[0]).read_bytes() == bytes(content)
    assert table.ids() == [one.prediction_id]
    assert any("wrong checksum" in each.getMessage() for each in caplog.records)


def test_what_was_killed_within_a_record_is_shipped_up_to_it(make_recorder, table, iris):
    one, other = answered(iris), answered(iris)
    folder = make_recorder()._root / "999999-killed"
    folder.mkdir(parents=True)
    content = release_frame(one) + prediction_frame(one) + prediction_frame(other)[:-7]
    (folder / "0000000001.segment").write_bytes(content)

    recorder = make_recorder()
    recorder.start()

    wait_until(lambda: not folder.exists())
    assert table.ids() == [one.prediction_id]
    assert not list(recorder._root.glob("*.damaged"))


def test_a_spool_folder_that_cannot_be_written_is_one_sentence(make_recorder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"MLOPS_SPOOL: the folder .* cannot be written"):
        make_recorder(spool=tmp_path / "file" / "spool").start()


def test_the_index_serves_a_window_of_time(database, table):
    with engine_for(database.url).connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        plan = connection.scalars(
            text(
                "EXPLAIN SELECT count(*) FROM predictions WHERE contract = 'iris' "
                "AND created_at >= now() - interval '1 day'"
            )
        ).all()

    assert "predictions_contract_created_at_idx" in "\n".join(plan)
