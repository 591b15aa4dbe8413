"""The prediction log of one process: spooled, shipped, interrupted, damaged."""

import json
import random
import resource
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import Any

import pytest
from sqlalchemy import text

from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.serving import prediction_log
from tests.servers import waiting_for_a_lock
from tests.serving.conftest import IRIS_ROW, NOWHERE, Client, limited, wait_until

LOCK = text("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE")


def counted(client: Client, name: str) -> float:
    return client.counted(f"spool_{name}_total")


def rows_of(database) -> dict[str, Any]:
    return {one.prediction_id: one for one in database.rows("SELECT * FROM predictions")}


def shipped(client: Client, database, count: int) -> dict[str, Any]:
    """The rows of the table by their ids, when as many were shipped."""
    wait_until(lambda: counted(client, "shipped") == count, what="the shipped rows")
    return rows_of(database)


@pytest.mark.parametrize("kind", ["houses", "mixed", "odd"])
def test_each_row_is_in_the_table_as_it_was_given_and_answered(
    start_client, database, kind, request
):
    release = request.getfixturevalue(kind)
    client, contract = start_client(release), release.manifest.contract
    names, target = list(contract.features), contract.target
    examples = [dict(zip(names, row, strict=True)) for row in release.manifest.example.rows]
    if kind == "mixed":
        examples[0]["channel"] = 'a\\b\tc\n"d" \u20ac'
    # More than the model answers at once.
    rows = examples * 700
    indented, headers = json.dumps(rows[0], indent=2), {"content-type": "application/json"}
    headers["x-request-id"] = "order:17"

    started = time.perf_counter()
    one = client.post("/predict", content=indented, headers=headers).json()
    milliseconds = (time.perf_counter() - started) * 1000
    listed = client.predict(rows)
    columns = client.predict({"columns": {name: [row[name] for row in rows] for name in names}})
    other = client.post("/invocations", json={"dataframe_records": rows[:1]})

    found = shipped(client, database, 2 * len(rows) + 2)
    assert found[other.headers["x-prediction-id"]].features == rows[0]
    assert other.json()["predictions"] == [one[target.response_name]]
    facts = attrgetter("features", "prediction", "label", "probabilities")
    for given, answer in zip([rows[0], *rows], [one, *listed], strict=True):
        row, value = found[answer["prediction_id"]], answer[target.response_name]
        code, chances = target.codes.get(value, value), answer.get("probabilities")
        assert row.features == given
        assert (row.prediction, row.label) == (code, answer.get("label"))
        assert row.label == target.labels.get(code)
        assert row.probabilities == (chances and list(chances.values()))
        assert row.request_id == ("order:17" if answer is one else None)
        assert (row.contract, row.release) == (contract.name, release.manifest.release)
        assert row.model_version == 1
    for place, answer in enumerate(listed):
        row = found[f"{columns['prediction_id']}-{place}"]
        assert facts(row) == facts(found[answer["prediction_id"]])
        assert columns["columns"][target.response_name][place] == answer[target.response_name]
    assert abs(row.created_at.timestamp() - time.time()) < 60
    assert 0 < found[one["prediction_id"]].latency_ms < milliseconds


def test_a_full_spool_refuses_predictions_until_the_database_is_back(
    start_client, database, iris, monkeypatch, caplog
):
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    client = start_client(iris, spool_max_bytes=65536)
    answers = [client.post("/predict", json=[IRIS_ROW] * 10) for _ in range(120)]

    statuses, spooled = Counter(one.status_code for one in answers), len(client.kept())
    assert client.services.log.stored_bytes <= 65536
    [told] = wait_until(lambda: [one for one in caplog.messages if "cannot be shipped" in one])
    assert "127.0.0.1" in told
    assert "hidden" not in told
    assert 0 < spooled < 120
    assert statuses[503] == 120 - spooled
    ready = client.get("/health/ready")
    assert ready.status_code == client.get("/ping").status_code == 503
    assert "prediction log" in ready.json()["detail"]
    assert all("retry-after" in one.headers for one in answers if one.status_code == 503)
    monkeypatch.setenv("DATABASE_URL", database.url)
    wait_until(lambda: database.count("predictions") == 10 * spooled)
    wait_until(lambda: "shipped to the database again" in caplog.text)
    client.predict()


def test_a_disk_that_takes_no_more_refuses_until_it_does_again_and_is_emptied_meanwhile(
    start_client, database, iris, monkeypatch
):
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    client = start_client(iris)

    def ready(asked: Client) -> bool:
        return asked.get("/health/ready").status_code == 200

    waiting = client.predict()["prediction_id"]
    with limited(resource.RLIMIT_FSIZE, 100):
        wait_until(lambda: client.post("/predict", json=IRIS_ROW).status_code == 503)
        assert not ready(client)
        # It may be the log itself that fills the disk; so may it be when a server starts.
        monkeypatch.setenv("DATABASE_URL", database.url)
        wait_until(lambda: waiting in rows_of(database))
        restarted = start_client(iris)
        assert not ready(client)
        assert not ready(restarted)
    wait_until(lambda: ready(client) and ready(restarted))
    later = client.predict()["prediction_id"]

    wait_until(lambda: {waiting, later} <= set(rows_of(database)))
    assert counted(client, "torn") == counted(client, "damaged") == 0


# As with a full disk of its own, or a login without rights; and before a month has a partition.
@pytest.mark.parametrize(
    "instead",
    ["", "CREATE TABLE predictions (LIKE away INCLUDING ALL) PARTITION BY RANGE (prediction_id)"],
)
def test_a_database_that_answers_but_takes_nothing_leaves_no_segment_a_round(
    start_client, database, iris, instead
):
    client = start_client(iris, ship_seconds=0.05)
    database.run(f"ALTER TABLE predictions RENAME TO away; {instead}")
    for _ in range(4):
        client.predict()
        time.sleep(0.15)
    segments = [*client.services.log.root.glob("*.log")]
    database.run("DROP TABLE IF EXISTS predictions; ALTER TABLE away RENAME TO predictions")

    assert len(segments) <= 2
    assert len(shipped(client, database, 4)) == 4


def test_a_segment_that_cannot_be_read_holds_up_no_other(start_client, database, iris, caplog):
    client = start_client(iris)
    # As one of another user, for example.
    (client.services.log.root / "0-odd.log").mkdir()

    answered = client.predict()["prediction_id"]

    wait_until(lambda: answered in rows_of(database) and "0-odd.log" in caplog.text, timeout=20)


def test_a_wait_for_the_database_is_rested_for_as_little_as_a_stop_waits_for_it(
    start_client, database, iris, monkeypatch
):
    monkeypatch.setattr(prediction_log, "_REST_TO_WORK", 1000)
    monkeypatch.setattr(prediction_log, "_MAX_WORK_SECONDS", 0.0005)
    client = start_client(iris)
    log = client.services.log
    with engine_for(database.url).begin() as connection:
        connection.execute(LOCK)
        client.predict()
        log.answered_at = time.monotonic() + 3600
        wait_until(lambda: waiting_for_a_lock(database.url))
        time.sleep(0.3)
    client.predict()
    wait_until(lambda: len(rows_of(database)) == 2)

    with engine_for(database.url).begin() as connection:
        connection.execute(LOCK)
        client.predict()
        wait_until(lambda: waiting_for_a_lock(database.url))
        log.stop(0.3)
        assert list(log.root.glob("*.log"))
    wait_until(lambda: len(rows_of(database)) == 3)


def test_a_stop_ends_the_rests_of_a_busy_process(start_client, iris, monkeypatch):
    # Minutes, after the first batch already.
    monkeypatch.setattr(prediction_log, "_REST_TO_WORK", 100_000)
    client = start_client(iris)
    for _ in range(5):
        client.predict([IRIS_ROW] * 2000)
        client.services.log.answered_at = time.monotonic() + 3600

    client.services.log.stop(90)

    assert counted(client, "shipped") == 10_000


@pytest.mark.usefixtures("database")
def test_a_spool_that_is_half_full_ends_the_rests_of_a_busy_process(settings, iris, monkeypatch):
    monkeypatch.setattr(prediction_log, "_REST_TO_WORK", 100_000)
    client = Client(settings, iris)
    for _ in range(3):
        client.predict([IRIS_ROW] * 2000)
    log = client.services.log
    log.answered_at, log.max_bytes = time.monotonic() + 3600, 2 * log.stored_bytes

    log.start()

    wait_until(lambda: counted(client, "shipped") == 6000)
    log.stop(5)


def test_several_threads_record_at_once_in_one_segment_after_the_other(
    settings, start_client, database, iris, monkeypatch
):
    monkeypatch.setattr(prediction_log, "_SEGMENT_BYTES", 2000)
    writer, requests = Client(settings, iris), [[IRIS_ROW] * (1 + at % 3) for at in range(100)]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(writer.predict, requests))

    assert len(list(writer.services.log.root.glob("*.log"))) > 10
    writer.services.log.end_segment()
    count = sum(map(len, requests))
    assert len(shipped(start_client(iris), database, count)) == count


@pytest.fixture
def spooled(settings, iris) -> tuple[list[str], bytes]:
    """Predictions, and their lines, which are taken away before anybody ships them."""
    client = Client(settings, iris)
    answered = [client.predict()["prediction_id"] for _ in range(5)]
    client.services.log.end_segment()
    (segment,) = client.services.log.root.glob("*.log")
    content = segment.read_bytes()
    segment.unlink()
    return answered, content


def adopt(client: Client, content: bytes) -> None:
    """Ship what a killed process has left."""
    segment = client.services.log.root / "0-killed.log"
    segment.with_suffix(".new").write_bytes(content)
    segment.with_suffix(".new").rename(segment)
    wait_until(lambda: not segment.exists())


def test_what_was_killed_is_shipped_up_to_its_last_whole_line_and_never_twice(
    start_client, database, iris, spooled
):
    (answered, content), client = spooled, start_client(iris)
    # In a line, and twice between the commit and the removal of the segment.
    for killed, rows in ((content[:-7], answered[:-1]), (content, answered), (content, answered)):
        adopt(client, killed)

        assert sorted(rows_of(database)) == sorted(rows)
    assert (counted(client, "torn"), counted(client, "damaged")) == (1, 0)


def test_a_flipped_bit_never_costs_more_than_its_own_line(start_client, database, iris, spooled):
    answered, content = spooled
    chance = random.Random(3)
    newlines = [place for place, byte in enumerate(content) if byte == 10]
    client = start_client(iris, ship_seconds=0.01)
    for place in [*newlines[:-1], *chance.sample(range(len(content)), 8)]:
        database.run("TRUNCATE predictions")
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        adopt(client, bytes(damaged))

        own = content[:place].count(b"\n")
        assert set(rows_of(database)) == set(answered) - {answered[own]}, (place, bytes(damaged))


def test_a_line_that_the_database_refuses_is_set_aside_and_holds_up_no_other(
    settings, start_client, database, iris, caplog
):
    writer, headers = Client(settings, iris), {"content-type": "application/json"}
    # More digits than jsonb holds.
    odd = json.dumps(IRIS_ROW).replace("2.1", "1e-20000")

    answered = [writer.predict()["prediction_id"] for _ in range(20)]
    tiny = writer.post("/predict", content=odd, headers=headers).json()["prediction_id"]
    writer.services.log.end_segment()
    [segment] = writer.services.log.root.glob("*.log")
    lines = segment.read_bytes().splitlines(keepends=True)
    # No version is so large.
    payload = lines[10][9:].replace(b"\t1\t", b"\t9999999999\t", 1)
    lines[10] = b"%08x\t%b" % (zlib.crc32(payload), payload)
    segment.write_bytes(b"".join(lines))
    refused = answered.pop(10)

    client = start_client(iris)
    found = shipped(client, database, 20)
    assert set(found) == {*answered, tiny}
    assert found[tiny].features == IRIS_ROW | {"petal_width": 0}
    assert counted(client, "damaged") == 1
    damaged = client.services.log.root / "damaged"
    assert refused in damaged.read_text()
    assert damaged.stat().st_mode & 0o777 == 0o600
    assert "kept in" in caplog.text
    # Two bad requests must not have all others of their time written one by one.
    assert len(database.rows("SELECT DISTINCT xmin::text FROM predictions")) <= 8
