"""The prediction log of one process: spooled, shipped, interrupted, damaged."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from sqlalchemy import text

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.serving.context import Services
from tests.releases import IRIS_CONTRACT
from tests.serving.conftest import IRIS_ROW, call, make, wait_until

pytestmark = pytest.mark.integration

NOWHERE = "postgresql://nobody:hidden@127.0.0.1:1/nothing"
JSON = {"content-type": "application/json"}


@pytest.fixture
def table(database):
    database.run("TRUNCATE predictions")
    return database


@pytest.fixture
def start(settings, table):
    started: list[Services] = []

    def begin(release: Release, **changes: Any) -> Services:
        changes = {"ship_seconds": 0.05, "retry_seconds": 0.2} | changes
        started.append(make(settings, release, **changes))
        started[-1].log.start()
        return started[-1]

    yield begin
    for one in started:
        one.log.stop(5)


def ids(table) -> list[str]:
    return [one.prediction_id for one in table.rows("SELECT prediction_id FROM predictions")]


def ask(services: Services, body: Any = IRIS_ROW, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = call(services, "POST", "/predict", content=content, headers=JSON | headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_prediction_is_in_the_table_with_all_that_is_known_of_it(start, table, iris):
    services = start(iris)

    answer = ask(services, **{"X-Request-ID": "order:17"})

    [row] = wait_until(lambda: table.rows("SELECT * FROM predictions"))
    assert row.prediction_id == answer["prediction_id"]
    assert abs(row.created_at.timestamp() - time.time()) < 60
    assert (row.contract, row.release, row.model_version) == ("iris", iris.manifest.release, 1)
    assert row.features == IRIS_ROW
    assert (row.prediction, row.label) == (2, "virginica")
    assert row.probabilities == list(answer["probabilities"].values())
    assert 0 < row.latency_ms < 1000
    assert row.request_id == "order:17"


@pytest.mark.parametrize("form", ["columns", "list"])
def test_each_row_of_a_request_has_its_own_id(start, table, iris, form):
    services = start(iris)
    rows = [IRIS_ROW | {"petal_length": place % 100 / 10} for place in range(3000)]
    columns = {name: [row[name] for row in rows] for name in IRIS_ROW}

    answer = ask(services, rows if form == "list" else {"columns": columns})

    wait_until(lambda: services.log.counts.shipped == 3000)
    found = {one.prediction_id: one for one in table.rows("SELECT * FROM predictions")}
    assert len(found) == 3000
    for place in (0, 7, 2999):
        if form == "list":
            one = answer[place]
        else:
            given = answer["columns"]
            one = {"iris_class": given["iris_class"][place], "label": given["label"][place]}
            one["prediction_id"] = f"{answer['prediction_id']}-{place}"
            one["probabilities"] = {
                name: values[place] for name, values in given["probabilities"].items()
            }
        row = found[one["prediction_id"]]
        assert row.features == rows[place]
        assert (row.prediction, row.label) == (one["iris_class"], one["label"])
        assert row.probabilities == list(one["probabilities"].values())
        assert row.request_id is None


def test_a_regression_has_neither_labels_nor_probabilities(start, table, houses):
    services = start(houses)

    one = ask(services, {"방 수": 3, "area m2": 100})
    many = ask(services, {"columns": {"방 수": [3, 1], "area m2": [100, 50]}})

    wait_until(lambda: services.log.counts.shipped == 3)
    rows = {row.prediction_id: row for row in table.rows("SELECT * FROM predictions")}
    assert rows[one["prediction_id"]].prediction == one["price"]
    second = rows[f"{many['prediction_id']}-1"]
    assert second.prediction == many["columns"]["price"][1]
    assert second.features == {"방 수": 1, "area m2": 50}
    assert {(row.label, row.probabilities) for row in rows.values()} == {(None, None)}


def test_every_type_of_value_is_logged_as_it_was_given(start, table, mixed):
    services = start(mixed)
    row = dict(
        zip(mixed.manifest.contract.feature_names, mixed.manifest.example.rows[0], strict=True)
    )
    row["channel"] = 'a\\b\tc\n"d" \u20ac'

    ask(services, json.dumps(row, indent=2).encode())
    ask(services, [row, row])
    answer = call(services, "POST", "/invocations", json={"dataframe_records": [row]})
    assert answer.status_code == 200

    wait_until(lambda: services.log.counts.shipped == 4)
    assert [one.features for one in table.rows("SELECT features FROM predictions")] == [row] * 4


def test_names_and_labels_may_be_any_text(start, table, iris):
    name, label = '100% "of" it\'s\\ a field,{0} %s', "50%\n'x' \\. \x01\x02\t"
    raw = IRIS_CONTRACT.model_dump()
    raw["features"] = dict(zip((name, "b", "c", "d"), raw["features"].values(), strict=True))
    raw["target"]["classes"][2]["label"] = label
    manifest = iris.manifest.model_copy(update={"contract": Contract.model_validate(raw)})
    services = start(Release(manifest=manifest, model=iris.model))
    row = dict(zip(raw["features"], IRIS_ROW.values(), strict=True))

    ask(services, row)
    ask(services, [row, row])

    wait_until(lambda: services.log.counts.shipped == 3)
    for one in table.rows("SELECT features, label FROM predictions"):
        assert (one.features, one.label) == (row, label)


def test_rows_that_were_committed_are_not_doubled_when_they_are_shipped_again(start, table, iris):
    services = start(iris, ship_seconds=600)
    first = ask(services)["prediction_id"]
    services.log.end_segment()
    [segment] = services.log.root.glob("*.log")
    content = segment.read_bytes()
    services.log.stop(5)
    assert ids(table) == [first]

    # What a process leaves that was killed between the commit and the removal of the segment.
    (services.log.root / "0-killed.log").write_bytes(content)
    again = start(iris)

    wait_until(lambda: not list(again.log.root.glob("*.log")))
    assert ids(table) == [first]


def test_predictions_wait_while_the_database_is_away(start, table, iris, monkeypatch, caplog):
    available = os.environ["DATABASE_URL"]
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    services = start(iris)
    given = [ask(services)["prediction_id"] for _ in range(30)]
    told = wait_until(lambda: [one for one in caplog.messages if "cannot be shipped" in one])
    assert len(told) == 1
    assert "127.0.0.1" in told[0]
    assert "hidden" not in told[0]
    assert services.log.stored_bytes > 0
    assert not ids(table)

    monkeypatch.setenv("DATABASE_URL", available)

    wait_until(lambda: sorted(ids(table)) == sorted(given))
    wait_until(lambda: services.log.stored_bytes == 0)


@pytest.mark.parametrize("policy", ["refuse", "drop"])
def test_a_full_spool_does_what_was_configured(start, iris, monkeypatch, policy):
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    services = start(iris, spool_max_bytes=65536, spool_when_full=policy)
    answers = [call(services, "POST", "/predict", json=[IRIS_ROW] * 10) for _ in range(120)]

    counts, statuses = services.log.counts, [one.status_code for one in answers]
    assert services.log.stored_bytes <= 65536
    assert 0 < counts.recorded < 1200
    refused = statuses.count(503)
    lost = (1200 - counts.recorded) // 10
    assert (counts.refused, counts.dropped) == ((lost, 0) if policy == "refuse" else (0, lost * 10))
    assert refused == counts.refused
    ready = call(services, "GET", "/health/ready")
    assert ready.status_code == (503 if policy == "refuse" else 200)
    assert call(services, "GET", "/ping").status_code == ready.status_code
    if policy == "refuse":
        assert "prediction log" in ready.json()["detail"]
        assert all("retry-after" in one.headers for one in answers if one.status_code == 503)


def test_a_disk_that_takes_no_more_refuses_until_it_does_again(start, table, iris):
    services = start(iris, ship_seconds=0.2)
    first = ask(services)["prediction_id"]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
        wait_until(lambda: call(services, "POST", "/predict", json=IRIS_ROW).status_code == 503)
        assert call(services, "GET", "/health/ready").status_code == 503
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    wait_until(lambda: call(services, "GET", "/health/ready").status_code == 200)
    second = ask(services)["prediction_id"]

    wait_until(lambda: {first, second} <= set(ids(table)))
    assert services.log.counts.torn == services.log.counts.damaged == 0


def test_shipping_goes_on_soon_after_a_lock_is_gone_and_a_stop_does_not_wait_for_it(
    start, table, iris
):
    services = start(iris)
    with engine_for(table.url).begin() as connection:
        connection.execute(text("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE"))
        ask(services)
        time.sleep(3)
        started = time.monotonic()
        services.log.stop(0.3)
        assert time.monotonic() - started < 1
        assert list(services.log.root.glob("*.log"))
    # The thread that is left has rested for nothing that the database made it wait for.
    wait_until(lambda: ids(table), timeout=5)


def test_a_stop_ends_the_rests_of_a_busy_process(start, table, iris):
    services = start(iris, ship_seconds=0.05)
    services.log.answered_at = time.monotonic() + 3600
    for _ in range(5):
        ask(services, [IRIS_ROW] * 2000)
        services.log.answered_at = time.monotonic() + 3600

    started = time.monotonic()
    services.log.stop(20)

    assert services.log.counts.shipped == 10_000
    assert time.monotonic() - started < 15


def test_several_threads_record_at_once(start, table, iris):
    services = start(iris)

    def record() -> None:
        for place in range(25):
            ask(services, [IRIS_ROW] * (1 + place % 3))

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    total = 4 * sum(1 + place % 3 for place in range(25))
    wait_until(lambda: services.log.counts.shipped == total)
    assert len(ids(table)) == total


def spooled(services: Services, count: int) -> tuple[list[str], bytes]:
    """Predictions, and their lines, which are taken away before anybody ships them."""
    answered = [ask(services)["prediction_id"] for _ in range(count)]
    services.log.end_segment()
    segments = sorted(services.log.root.glob("*.log"))
    content = b"".join(one.read_bytes() for one in segments)
    for one in segments:
        one.unlink()
    return answered, content


def test_a_line_that_the_database_refuses_is_set_aside_and_holds_up_no_other(
    start, table, iris, caplog
):
    services = start(iris, ship_seconds=0.5)
    # More digits than jsonb holds.
    odd = json.dumps(IRIS_ROW).replace("2.1", "1e-20000").encode()

    answered = [ask(services, odd if place == 10 else IRIS_ROW) for place in range(20)]

    wait_until(lambda: services.log.counts.shipped == 19)
    expected = {one["prediction_id"] for one in answered} - {answered[10]["prediction_id"]}
    assert set(ids(table)) == expected
    assert services.log.counts.damaged == 1
    assert answered[10]["prediction_id"] in (services.log.root / "damaged").read_text()
    assert "kept in" in caplog.text


def test_a_flipped_bit_never_costs_more_than_its_own_line(settings, start, table, iris):
    answered, content = spooled(make(settings, iris), 5)
    chance = random.Random(3)
    newlines = [place for place, byte in enumerate(content) if byte == 10]
    places = [*newlines[:-1], *chance.sample(range(len(content)), 40)]
    services = start(iris)
    for number, place in enumerate(places):
        table.run("TRUNCATE predictions")
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        segment = services.log.root / f"{number}-killed.log"
        segment.write_bytes(damaged)
        wait_until(lambda segment=segment: not segment.exists())

        own = content[:place].count(b"\n")
        expected = set(answered) - {answered[own]}
        assert set(ids(table)) == expected, (place, bytes(damaged))


def test_what_was_killed_within_a_line_is_shipped_up_to_it(settings, start, table, iris):
    answered, content = spooled(make(settings, iris), 2)
    services = start(iris)
    (services.log.root / "0-killed.log").write_bytes(content[:-7])

    wait_until(lambda: services.log.counts.torn == 1)
    assert wait_until(lambda: ids(table)) == answered[:1]
    assert not list(services.log.root.glob("damaged"))


WRITER = """
import sys, time
from mlops_for_mle.serving.prediction_log import PredictionLog
from mlops_for_mle.serving.settings import ServingSettings
log = PredictionLog(ServingSettings.load({"spool": sys.argv[1]}))
log._append(b"appended\\n")
print("done", flush=True)
time.sleep(60)
"""


def test_a_killed_process_is_taken_over_and_a_living_one_is_not(start, table, iris):
    services = start(iris)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(services.log.root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "done\n"
        time.sleep(0.5)
        assert len(list(services.log.root.glob("*.log"))) == 1
        assert services.log.counts.damaged == 0
    finally:
        writer.kill()
        writer.wait()

    wait_until(lambda: services.log.counts.damaged == 1)
    assert not list(services.log.root.glob("*.log"))
