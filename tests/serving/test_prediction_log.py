"""The prediction log of one process: spooled, shipped, interrupted, damaged."""

import json
import random
import resource
import signal
import threading
import time
import tracemalloc
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import text

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.engine import engine_for
from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.serving import prediction_log
from tests.releases import IRIS_CONTRACT
from tests.servers import waiting_for_a_lock
from tests.serving.conftest import IRIS_ROW, Client, counted, kept, wait_until

pytestmark = pytest.mark.integration

NOWHERE = "postgresql://nobody:hidden@127.0.0.1:1/nothing"


class Asking(Client):
    """A client of a server whose prediction log is shipped."""

    def ask(self, body: Any = IRIS_ROW, **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers |= {"content-type": "application/json"}
        answer = self("POST", "/predict", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def log(self):
        return self.services.log

    def counted(self, name: str) -> float:
        return counted(self.services, f"spool_{name}_total")

    def wait_until_shipped(self, rows: int) -> None:
        wait_until(lambda: self.counted("shipped") == rows, what="the shipped rows")


@pytest.fixture
def start(settings, database):
    started: list[Asking] = []

    def begin(release: Release, **changes: Any) -> Asking:
        started.append(Asking(settings, release, **{"ship_seconds": 0.05} | changes))
        started[-1].log.start()
        return started[-1]

    yield begin
    for one in started:
        one.log.stop(5)


def rows_of(database) -> dict[str, Any]:
    return {one.prediction_id: one for one in database.rows("SELECT * FROM predictions")}


def test_a_prediction_is_in_the_table_with_all_that_is_known_of_it(start, database, iris):
    client, started = start(iris), time.perf_counter()
    answer = client.ask(**{"X-Request-ID": "order:17"})
    milliseconds = (time.perf_counter() - started) * 1000

    [row] = wait_until(lambda: database.rows("SELECT * FROM predictions"))
    assert row.prediction_id == answer["prediction_id"]
    assert abs(row.created_at.timestamp() - time.time()) < 60
    assert (row.contract, row.release, row.model_version) == ("iris", iris.manifest.release, 1)
    assert row.features == IRIS_ROW
    assert (row.prediction, row.label) == (2, "virginica")
    assert row.probabilities == list(answer["probabilities"].values())
    assert 0 < row.latency_ms < milliseconds
    assert row.request_id == "order:17"


@pytest.mark.parametrize("form", ["columns", "list"])
def test_each_row_of_a_request_has_its_own_id(start, database, iris, form):
    client = start(iris)
    rows = [IRIS_ROW | {"petal_length": place % 100 / 10} for place in range(3000)]
    columns = {name: [row[name] for row in rows] for name in IRIS_ROW}

    answer = client.ask(rows if form == "list" else {"columns": columns})

    client.wait_until_shipped(3000)
    found = rows_of(database)
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


def test_a_regression_has_neither_labels_nor_probabilities(start, database, houses):
    client = start(houses)

    one = client.ask({"방 수": 3, "area m2": 100})
    many = client.ask({"columns": {"방 수": [3, 1], "area m2": [100, 50]}})

    client.wait_until_shipped(3)
    rows = rows_of(database)
    assert rows[one["prediction_id"]].prediction == one["price"]
    second = rows[f"{many['prediction_id']}-1"]
    assert second.prediction == many["columns"]["price"][1]
    assert second.features == {"방 수": 1, "area m2": 50}
    assert {(row.label, row.probabilities) for row in rows.values()} == {(None, None)}


def test_every_type_of_value_is_logged_as_it_was_given(start, database, mixed):
    client = start(mixed)
    names = mixed.manifest.contract.feature_names
    row = dict(zip(names, mixed.manifest.example.rows[0], strict=True))
    row["channel"] = 'a\\b\tc\n"d" \u20ac'

    client.ask(json.dumps(row, indent=2).encode())
    client.ask([row, row])
    assert client("POST", "/invocations", json={"dataframe_records": [row]}).status_code == 200

    client.wait_until_shipped(4)
    assert [one.features for one in rows_of(database).values()] == [row] * 4


def test_names_and_labels_may_be_any_text(start, database, iris):
    name, label = '100% "of" it\'s\\ a field,{0} %s', "50%\n'x' \\. \x01\x02\t"
    raw = IRIS_CONTRACT.model_dump()
    raw["features"] = dict(zip((name, "b", "c", "d"), raw["features"].values(), strict=True))
    raw["target"]["response_name"], raw["target"]["classes"][2]["label"] = "answer %", label
    manifest = iris.manifest.model_copy(update={"contract": Contract.model_validate(raw)})
    client = start(Release(manifest=manifest, model=iris.model))
    row = dict(zip(raw["features"], IRIS_ROW.values(), strict=True))

    one, (first, second) = client.ask(row), client.ask([row, row])
    columns = client.ask({"columns": {name: [value] for name, value in row.items()}})["columns"]

    assert one["label"] == first["label"] == second["label"] == columns["label"][0] == label
    assert {one["answer %"], first["answer %"], *columns["answer %"]} == {2}
    assert columns["probabilities"][label] == [pytest.approx(one["probabilities"][label])]
    client.wait_until_shipped(4)
    assert [(one.features, one.label) for one in rows_of(database).values()] == [(row, label)] * 4


@pytest.mark.parametrize("policy", ["refuse", "drop"])
def test_a_full_spool_does_what_was_configured(start, iris, monkeypatch, caplog, policy):
    monkeypatch.setenv("DATABASE_URL", NOWHERE)
    client = start(iris, spool_max_bytes=65536, spool_when_full=policy)
    answers = [client("POST", "/predict", json=[IRIS_ROW] * 10) for _ in range(120)]

    statuses, spooled = Counter(one.status_code for one in answers), len(kept(client.services))
    assert client.log.stored_bytes <= 65536
    [told] = wait_until(lambda: [one for one in caplog.messages if "cannot be shipped" in one])
    assert "127.0.0.1" in told
    assert "hidden" not in told
    assert 0 < spooled < 120
    lost = 120 - spooled
    expected = (lost, lost, 0, 503) if policy == "refuse" else (0, 0, lost * 10, 200)
    ready = client("GET", "/health/ready")
    counts = client.counted("refused"), client.counted("dropped")
    assert (statuses[503], *counts, ready.status_code) == expected
    assert client("GET", "/ping").status_code == ready.status_code
    if policy == "refuse":
        assert "prediction log" in ready.json()["detail"]
        assert all("retry-after" in one.headers for one in answers if one.status_code == 503)


def test_a_disk_that_takes_no_more_refuses_until_it_does_again(start, database, iris):
    client = start(iris, ship_seconds=0.2)

    def status(method: str, path: str, **body: Any) -> int:
        return client(method, path, **body).status_code

    first = client.ask()["prediction_id"]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
        wait_until(lambda: status("POST", "/predict", json=IRIS_ROW) == 503)
        assert status("GET", "/health/ready") == 503
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    wait_until(lambda: status("GET", "/health/ready") == 200)
    second = client.ask()["prediction_id"]

    wait_until(lambda: {first, second} <= set(rows_of(database)))
    assert client.counted("torn") == client.counted("damaged") == 0


def test_a_wait_for_the_database_is_rested_for_as_little_as_a_stop_waits_for_it(
    start, database, iris, monkeypatch
):
    monkeypatch.setattr(prediction_log, "_REST_TO_WORK", 1000)
    monkeypatch.setattr(prediction_log, "_LONGEST_WORK_SECONDS", 0.0005)
    client = start(iris)
    lock = text("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE")
    with engine_for(database.url).begin() as connection:
        connection.execute(lock)
        client.ask()
        client.log.answered_at = time.monotonic() + 3600
        time.sleep(1)
    client.ask()
    wait_until(lambda: len(rows_of(database)) == 2)

    with engine_for(database.url).begin() as connection:
        connection.execute(lock)
        client.ask()
        wait_until(lambda: waiting_for_a_lock(database.url))
        client.log.stop(0.3)
        assert list(client.log.root.glob("*.log"))
    wait_until(lambda: len(rows_of(database)) == 3)


def test_a_stop_ends_the_rests_of_a_busy_process(start, iris, monkeypatch):
    # Minutes, after the first batch already.
    monkeypatch.setattr(prediction_log, "_REST_TO_WORK", 100_000)
    client = start(iris)
    for _ in range(5):
        client.ask([IRIS_ROW] * 2000)
        client.log.answered_at = time.monotonic() + 3600

    client.log.stop(90)

    assert client.counted("shipped") == 10_000


def test_several_threads_record_at_once(start, database, iris):
    client = start(iris)

    def record() -> None:
        for place in range(25):
            client.ask([IRIS_ROW] * (1 + place % 3))

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    client.wait_until_shipped(4 * sum(1 + place % 3 for place in range(25)))
    assert len(rows_of(database)) == client.counted("shipped")


@pytest.fixture
def spooled(settings, iris) -> tuple[list[str], bytes]:
    """Predictions, and their lines, which are taken away before anybody ships them."""
    client = Asking(settings, iris)
    answered = [client.ask()["prediction_id"] for _ in range(5)]
    client.log.end_segment()
    (segment,) = client.log.root.glob("*.log")
    content = segment.read_bytes()
    segment.unlink()
    return answered, content


def adopt(client: Asking, content: bytes) -> None:
    """Ship what a killed process has left."""
    segment = client.log.root / "0-killed.log"
    segment.with_suffix(".new").write_bytes(content)
    segment.with_suffix(".new").rename(segment)
    wait_until(lambda: not segment.exists())


def test_rows_that_were_committed_are_not_doubled_when_they_are_shipped_again(
    start, database, iris, spooled
):
    client = start(iris)
    # A process may be killed between the commit and the removal of the segment.
    for _ in range(2):
        adopt(client, spooled[1])

        assert sorted(rows_of(database)) == sorted(spooled[0])


def test_what_was_killed_within_a_line_is_shipped_up_to_it(start, database, iris, spooled):
    client = start(iris)

    adopt(client, spooled[1][:-7])

    assert client.counted("torn") == 1
    assert sorted(rows_of(database)) == sorted(spooled[0][:-1])
    assert not list(client.log.root.glob("damaged"))


def test_a_flipped_bit_never_costs_more_than_its_own_line(start, database, iris, spooled):
    answered, content = spooled
    chance = random.Random(3)
    newlines = [place for place, byte in enumerate(content) if byte == 10]
    client = start(iris)
    for place in [*newlines[:-1], *chance.sample(range(len(content)), 40)]:
        database.run("TRUNCATE predictions")
        damaged = bytearray(content)
        damaged[place] ^= 1 << chance.randrange(8)
        adopt(client, bytes(damaged))

        own = content[:place].count(b"\n")
        assert set(rows_of(database)) == set(answered) - {answered[own]}, (place, bytes(damaged))


def test_a_long_line_is_not_copied_before_it_is_shipped(settings, iris):
    writer = Asking(settings, iris)
    writer.ask({"columns": {name: [5] * 100_000 for name in IRIS_ROW}})
    writer.log.end_segment()
    (segment,) = writer.log.root.glob("*.log")
    line = segment.read_bytes()

    tracemalloc.start()
    payload = writer.log._payload(line)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert payload == line
    assert peak < len(line) / 100


def test_a_line_that_the_database_refuses_is_set_aside_and_holds_up_no_other(
    settings, start, database, iris, caplog
):
    writer = Asking(settings, iris)
    # More digits than jsonb holds.
    odd = json.dumps(IRIS_ROW).replace("2.1", "1e-20000").encode()

    answered = [writer.ask(odd if place == 10 else IRIS_ROW) for place in range(20)]
    writer.log.end_segment()

    client = start(iris)
    client.wait_until_shipped(19)
    refused = answered.pop(10)["prediction_id"]
    assert set(rows_of(database)) == {one["prediction_id"] for one in answered}
    assert client.counted("damaged") == 1
    assert refused in (client.log.root / "damaged").read_text()
    assert "kept in" in caplog.text
    # One bad request must not have all others of its time written one by one.
    assert len(database.rows("SELECT DISTINCT xmin::text FROM predictions")) <= 6
