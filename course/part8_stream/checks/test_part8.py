"""What part 8 must do: each new row predicted once, whoever is down, slow or killed."""

import json
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import psycopg2
import pytest

from course.conftest import answers, not_copied
from course.hints import hint
from tests.servers import eventually, free_port

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
FINE = (200, b'{"iris_class": 1, "model": "check"}')
REFUSAL = (422, b'{"detail": [{"loc": ["body", "petal_width"], "msg": "is bad"}]}')
SLEEPING = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


class Api:
    """A server that answers as the check wants it to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.answer: Callable[[dict], tuple[int, bytes]] = lambda flower: FINE
        api = self

        class Handler(BaseHTTPRequestHandler):
            # A connection stays open, as with every server of today.
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                api.asked.append(body)
                status, content = api.answer(body)
                # A worker that was killed, or lost its patience, does not hear it.
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *arguments) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def api():
    running = Api()
    yield running
    running.close()


@pytest.fixture
def client(api):
    import httpx

    with httpx.Client(base_url=api.url, timeout=15) as client:
        yield client


@pytest.fixture
def run_sql(database, work: Path):
    def run(name: str) -> None:
        connection = psycopg2.connect(database.url)
        with connection, connection.cursor() as cursor:
            # Of comments alone, PostgreSQL would make an error of its own.
            cursor.execute("SELECT 1;" + (work / name).read_text("utf-8"))
        connection.close()

    return run


@pytest.fixture
def tables(run_sql, database):
    """The tables of begin.sql and of the learner's queue.sql; adds rows to iris_data."""
    run_sql("begin.sql")
    with hint(
        "Step 1: queue.sql must make the tables waiting, predictions and dead_letters.",
        "1단계: queue.sql은 waiting, predictions, dead_letters 테이블을 만들어야 합니다.",
    ):
        run_sql("queue.sql")
        for name in ("waiting", "predictions", "dead_letters"):
            assert database.query(f"SELECT to_regclass('{name}')") != [(None,)], name

    def add(count: int) -> list[int]:
        """Insert rows whose sepal_length tells them apart; gives their ids."""
        return [
            number
            for length in range(1, count + 1)
            for (number,) in database.query(
                "INSERT INTO iris_data (sepal_length, sepal_width, petal_length, petal_width) "
                f"VALUES ({length}, 3.5, 1.4, 0.2) RETURNING id"
            )
        ]

    return add


@pytest.fixture
def worker(program, database, api):
    def start(*arguments: str, **variables: str):
        settings = {"ROWS_PER_BATCH": "5", "TIMEOUT_SECONDS": "30", **variables}
        return program(
            "worker.py", *arguments, DATABASE_URL=database.url, API_URL=api.url, **settings
        )

    return start


def no_worker_has_rows(database) -> bool:
    """Whether the database has noticed the end of a killed worker."""
    held = (
        "SELECT 1 FROM pg_locks WHERE relation = 'waiting'::regclass AND mode <> 'AccessShareLock'"
    )
    return eventually(lambda: not database.query(held))


def test_a_new_row_waits_and_an_old_one_does_not(tables, run_sql, database):
    with hint(
        "A trigger of iris_data must put each new id into waiting, and nothing else; and queue.sql must be "
        "harmless when it is run again (IF NOT EXISTS, OR REPLACE).",
        "iris_data의 트리거가 새 id만 waiting에 넣어야 하고, queue.sql은 다시 실행해도 문제가 없어야 "
        "합니다(IF NOT EXISTS, OR REPLACE).",
    ):
        ids = tables(2)
        run_sql("queue.sql")
        ids += tables(1)
        assert database.query("SELECT row_id FROM waiting ORDER BY 1") == [(one,) for one in ids]


def test_a_row_has_one_prediction_at_most(tables, database):
    (number,) = tables(1)
    insert = f"INSERT INTO predictions (row_id, iris_class, model) VALUES ({number}, 1, 'a')"
    with hint(
        "Make row_id the primary key of predictions: the table itself must refuse a second one.",
        "predictions의 기본 키를 row_id로 하십시오. 두 번째 예측은 테이블이 거부해야 합니다.",
    ):
        database.query(insert)
        with pytest.raises(Exception, match="duplicate key"):
            database.query(insert)


def test_the_api_predicts_what_is_a_flower_and_refuses_the_rest(learner):
    from fastapi.testclient import TestClient

    with hint(
        "POST /predict must answer by the two questions, and 422 where a length is null, 0 or above 30.",
        "POST /predict는 두 질문으로 응답하고, 길이가 null이거나 0이거나 30보다 크면 422로 응답해야 합니다.",
    ):
        client = TestClient(learner.api.app)
        for petals, number in (((1.4, 0.2), 0), ((5.0, 1.4), 1), ((6.0, 2.5), 2)):
            flower = FLOWER | dict(zip(("petal_length", "petal_width"), petals, strict=True))
            assert client.post("/predict", json=flower).json()["iris_class"] == number
        for bad in (None, 0, 31):
            assert client.post("/predict", json=FLOWER | {"petal_width": bad}).status_code == 422


def test_an_answer_is_a_prediction_or_a_refusal(learner, client, api):
    mine = learner.answers
    with hint(
        "ask() must make Predicted of 200, and of 422 a Refused whose reason names the field.",
        "ask()는 200을 Predicted로, 422를 필드 이름이 든 reason의 Refused로 바꿔야 합니다.",
    ):
        assert mine.ask(client, FLOWER) == mine.Predicted(iris_class=1, model="check")
        api.answer = lambda flower: REFUSAL
        assert "petal_width" in mine.ask(client, FLOWER).reason
        assert api.asked == [FLOWER, FLOWER]


@pytest.mark.parametrize(
    "answer",
    [
        (503, b"busy"),
        (500, b"oh"),
        (404, b"no such route"),
        (200, b"<html>Welcome</html>"),
        (200, b'{"iris_class": "2", "model": "check"}'),
    ],
    ids=["busy", "broken", "wrong_address", "another_page", "text_for_a_number"],
)
def test_what_is_no_answer_blames_no_row(learner, client, api, answer):
    api.answer = lambda flower: answer
    with (
        hint(
            f"{answer} says nothing about the row: raise ApiUnavailableError. Only 422 is a refusal.",
            f"{answer}은(는) 행에 대해 알려 주는 것이 없으므로 ApiUnavailableError를 일으키십시오. 422만 거부입니다.",
        ),
        pytest.raises(learner.answers.ApiUnavailableError),
    ):
        learner.answers.ask(client, FLOWER)


def test_nobody_there_or_too_slow_is_no_answer_either(learner, api, port):
    import httpx

    gate = Event()
    api.answer = lambda flower: (gate.wait(20), FINE)[1]
    mine = learner.answers
    with hint(
        "A refused connection and a timeout are httpx.TransportError: raise ApiUnavailableError.",
        "거절된 연결과 시간 초과는 httpx.TransportError입니다. ApiUnavailableError를 일으키십시오.",
    ):
        with (
            httpx.Client(base_url=api.url, timeout=0.5) as hasty,
            pytest.raises(mine.ApiUnavailableError),
        ):
            mine.ask(hasty, FLOWER)
        gate.set()
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}") as nobody,
            pytest.raises(mine.ApiUnavailableError),
        ):
            mine.ask(nobody, FLOWER)


def test_numbers_that_json_does_not_have_are_sent_as_null(learner, client, api):
    with hint(
        "A column of float8 may hold NaN, infinity and NULL. Send null for each, and let the API decide.",
        "float8 열에는 NaN과 무한대, NULL이 있을 수 있습니다. 모두 null로 보내고 API가 판단하게 하십시오.",
    ):
        for bad in (float("nan"), float("-inf"), None):
            learner.answers.ask(client, {"id": 7, **FLOWER, "petal_width": bad})
            assert api.asked[-1] == FLOWER | {"petal_width": None}


def test_each_row_is_asked_about_and_predicted_once(tables, database, worker, api):
    ids = tables(12)
    with hint(
        "worker.py --once must write a prediction of each waiting row, empty the queue, and end.",
        "worker.py --once는 기다리는 행마다 예측을 쓰고, 대기열을 비우고, 끝나야 합니다.",
    ):
        worker("--once").succeeds()
        worker("--once").succeeds()
        found = database.query("SELECT row_id, iris_class, model FROM predictions ORDER BY 1")
        assert found == [(one, 1, "check") for one in ids]
        assert database.count("waiting") == 0
        assert len(api.asked) == 12


def test_a_refused_row_goes_to_the_dead_letters_and_stops_nobody(tables, database, worker, api):
    ids = tables(7)
    api.answer = lambda flower: REFUSAL if flower["sepal_length"] == 2 else FINE
    with hint(
        "A row that is refused belongs into dead_letters with its reason; the others go on.",
        "거부된 행은 이유와 함께 dead_letters로 가고, 나머지 행은 계속 처리되어야 합니다.",
    ):
        worker("--once").succeeds()
        ((number, reason),) = database.query("SELECT row_id, reason FROM dead_letters")
        assert number == ids[1]
        assert "petal_width" in reason
        assert (database.count("predictions"), database.count("waiting")) == (6, 0)


def test_rows_wait_while_the_api_is_busy(tables, database, worker, api):
    tables(3)
    api.answer = lambda flower: (503, b"busy")
    with hint(
        "While the API answers 503, no row may leave waiting. --once ends with a sentence and status 1; without "
        "it the worker must ask again until the API is back.",
        "API가 503으로 응답하는 동안에는 어떤 행도 waiting을 떠나면 안 됩니다. --once는 한 문장과 종료 상태 1로 "
        "끝나고, --once가 없으면 워커는 API가 돌아올 때까지 다시 요청해야 합니다.",
    ):
        once = worker("--once")
        assert once.ends() == 1
        assert "Traceback" not in once.output
        assert (database.count("waiting"), database.count("dead_letters")) == (3, 0)
        running, asked = worker(), len(api.asked)
        running.until(lambda: len(api.asked) > asked + 1)
        api.answer = lambda flower: FINE
        running.until(lambda: database.count("predictions") == 3)


def test_what_was_answered_before_the_api_failed_stays(tables, database, worker, api):
    tables(4)
    api.answer = lambda flower: FINE if flower["sepal_length"] <= 2 else (503, b"busy")
    with hint(
        "Two of four rows were answered, then the API failed: write those two, and leave two waiting.",
        "네 행 중 두 행이 응답을 받은 다음 API가 실패했습니다. 두 행은 쓰고, 두 행은 기다리게 두십시오.",
    ):
        assert worker("--once").ends() == 1
        assert (database.count("predictions"), database.count("waiting")) == (2, 2)


def test_two_workers_never_take_the_same_row(tables, database, worker, api):
    tables(10)
    gate = Event()
    api.answer = lambda flower: (gate.wait(60), FINE)[1]
    with hint(
        "While the first worker has rows 1 to 5, the second must take rows 6 to 10 and not wait: FOR UPDATE "
        "OF waiting SKIP LOCKED, in the transaction that writes the predictions.",
        "첫 번째 워커가 1~5번 행을 가진 동안 두 번째 워커는 기다리지 말고 6~10번 행을 가져가야 합니다. 예측을 "
        "쓰는 트랜잭션에서 FOR UPDATE OF waiting SKIP LOCKED를 쓰십시오.",
    ):
        first = worker("--once")
        first.until(lambda: api.asked)
        second = worker("--once")

        def is_asked_for_its_rows() -> bool:
            return any(one["sepal_length"] > 5 for one in api.asked)

        second.until(lambda: is_asked_for_its_rows() or database.query(BLOCKED))
        assert is_asked_for_its_rows()
        gate.set()
        first.succeeds()
        second.succeeds()
        assert sorted(one["sepal_length"] for one in api.asked) == list(range(1, 11))
        assert database.count("predictions") == 10


def test_a_worker_killed_while_it_asks_loses_no_row(tables, database, worker, api):
    tables(4)
    gate = Event()
    api.answer = lambda flower: FINE if len(api.asked) < 3 else (gate.wait(60), FINE)[1]
    killed = worker()
    with hint(
        "The worker was killed while it asked about the third row; all four must still wait, and the next worker "
        "must predict each once. Take, write and delete in one transaction.",
        "워커가 세 번째 행을 요청하는 중에 죽었습니다. 네 행이 모두 기다리고 있어야 하고, 다음 워커가 한 번씩 "
        "예측해야 합니다. 가져오기와 쓰기, 지우기를 한 트랜잭션으로 하십시오.",
    ):
        killed.until(lambda: len(api.asked) >= 3)
        killed.stop(signal.SIGKILL)
        killed.ends()
        assert no_worker_has_rows(database)
        assert (database.count("waiting"), database.count("predictions")) == (4, 0)
        gate.set()
        worker("--once").succeeds()
        assert (database.count("waiting"), database.count("predictions")) == (0, 4)


def test_a_worker_killed_while_it_writes_doubles_no_row(tables, database, worker):
    tables(4)
    database.query(
        """
        CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$;
        CREATE TRIGGER slow AFTER DELETE ON waiting FOR EACH STATEMENT EXECUTE FUNCTION doze();
        """
    )
    killed = worker()
    with hint(
        "The worker was killed when the rows had left waiting, before its transaction was over: no prediction and "
        "no gap in the queue may be seen. Write and delete in one transaction.",
        "행이 waiting에서 지워지고 트랜잭션이 끝나기 전에 워커가 죽었습니다. 예측도, 대기열의 빈자리도 보이면 안 "
        "됩니다. 쓰기와 지우기를 한 트랜잭션으로 하십시오.",
    ):
        killed.until(lambda: database.query(SLEEPING))
        killed.stop(signal.SIGKILL)
        killed.ends()
        assert no_worker_has_rows(database)
        assert (database.count("waiting"), database.count("predictions")) == (4, 0)


def test_the_worker_goes_on_when_the_database_has_come_back(tables, database, worker):
    tables(1)
    running = worker()
    with hint(
        "The database went away for a moment, and the worker ended with it. Catch OperationalError and "
        "InterfaceError, and connect again.",
        "데이터베이스가 잠시 사라지자 워커도 끝났습니다. OperationalError와 InterfaceError를 잡아 다시 접속하십시오.",
    ):
        running.until(lambda: database.count("predictions") == 1)
        database.cut()
        tables(1)
        database.mend()
        running.until(lambda: database.count("predictions") == 2)


def test_the_panel_counts_answers_by_minute_and_class(tables, database, work: Path):
    ids = tables(6)
    now = datetime.now(UTC).replace(second=30, microsecond=0)
    minutes = [now - timedelta(minutes=one) for one in (90, 5, 5, 5, 2)]
    for number, at, flower_class in zip(ids[:4], minutes, (0, 0, 0, 2), strict=False):
        database.query(
            "INSERT INTO predictions (row_id, iris_class, model, created_at) "
            f"VALUES ({number}, {flower_class}, 'a', '{at}')"
        )
    for number, at in zip(ids[4:], (minutes[4], minutes[0]), strict=True):
        database.query(
            f"INSERT INTO dead_letters (row_id, reason, created_at) VALUES ({number}, 'bad', '{at}')"
        )
    with hint(
        "The panel's SQL must give time (the minute), metric (the class as text, or refused for dead letters) and "
        "value (how many), in the order of time, of what $__timeFilter(created_at) lets through.",
        "패널의 SQL은 time(분), metric(텍스트로 된 클래스, 데드 레터는 refused), value(개수)를 시간 순서로, "
        "$__timeFilter(created_at)이 고른 것만 내놓아야 합니다.",
    ):
        board = json.loads((work / "dashboard.json").read_text("utf-8"))
        sql = board["panels"][0]["targets"][0]["rawSql"]
        # What Grafana puts in the place of its macro.
        sql = re.sub(
            r"\$__timeFilter\(([\w.]+)\)",
            rf"\1 BETWEEN '{now - timedelta(hours=1)}' AND '{now}'",
            sql,
        )
        connection = psycopg2.connect(database.url)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1;" + sql)
            assert cursor.description is not None
            assert [one.name for one in cursor.description] == ["time", "metric", "value"]
            found = cursor.fetchall()
        connection.close()
        assert [time for time, *_ in found] == sorted(time for time, *_ in found)
        full = [one.replace(second=0) for one in minutes]
        assert set(found) == {(full[1], "0", 2), (full[1], "2", 1), (full[4], "refused", 1)}


def test_one_image_holds_the_generator_the_api_and_the_worker(dockerfile: str):
    with hint(
        "The image needs psycopg2-binary, httpx, fastapi and uvicorn, six files, a user of its own and a CMD.",
        "이미지에는 psycopg2-binary, httpx, fastapi, uvicorn, 파일 여섯 개, 별도의 사용자, CMD가 필요합니다.",
    ):
        files = ("database.py", "generator.py", "iris.csv", "api.py", "answers.py", "worker.py")
        packages = ("psycopg2-binary", "httpx", "fastapi", "uvicorn")
        for wanted in (*packages, "\nUSER ", "\nCMD "):
            assert wanted in dockerfile, wanted
        assert not_copied(dockerfile, *files) == []


def test_compose_starts_two_workers_and_shows_the_dashboard(services):
    with hint(
        "worker needs `deploy: {replicas: 2}`, the database and the API by their services' names, and must wait for "
        "`condition: service_healthy`; grafana needs 127.0.0.1:3000:3000 and its three files.",
        "worker에는 `deploy: {replicas: 2}`와 서비스 이름으로 된 데이터베이스와 API의 주소, `condition: service_healthy`가 "
        "필요합니다. grafana에는 127.0.0.1:3000:3000과 파일 세 개가 필요합니다.",
    ):
        worker, grafana = services["worker"], services["grafana"]
        assert worker["deploy"]["replicas"] == 2
        assert re.search(r"@postgres(:5432)?/", str(worker["environment"]))
        assert "http://api:8000" in str(worker["environment"])
        assert worker["depends_on"]["postgres"]["condition"] == "service_healthy"
        assert grafana["ports"] == ["127.0.0.1:3000:3000"]
        mounted = str(grafana["volumes"])
        for name in ("datasource.yml", "dashboards.yml", "dashboard.json"):
            assert name in mounted, name
    with hint(
        "A program that is process 1 and has no handler does not hear SIGTERM: give generator and worker `init: true`.",
        "1번 프로세스인 프로그램은 핸들러가 없으면 SIGTERM에 끝나지 않습니다. generator와 worker에 `init: true`를 주십시오.",
    ):
        assert services["generator"]["init"] is services["worker"]["init"] is True


def test_the_kedro_node_predicts_what_is_neither_answered_nor_waiting(
    learner, tables, database, program, typed, port
):
    import pandas as pd

    tables(2)
    with hint(
        "score_rows() must give rows of predictions and of dead_letters, of at most `at_most` rows; the query must "
        "leave out what waits or has been answered, so that a second run writes nothing.",
        "score_rows()는 최대 `at_most`개의 행으로 predictions와 dead_letters의 행을 내놓아야 합니다. 쿼리는 기다리거나 "
        "이미 응답을 받은 행을 빼야 하고, 두 번째 실행은 아무것도 쓰지 않아야 합니다.",
    ):
        mine, flowers = learner.answers, pd.DataFrame([{"id": n, **FLOWER} for n in (1, 2, 3)])
        said = {1: mine.Predicted(iris_class=0, model="a"), 2: mine.Refused(reason="bad")}
        score = learner.kedro_backfill.score_rows
        predicted, refused = score(flowers, lambda row: said[row["id"]], 2)
        assert predicted.to_dict("records") == [{"row_id": 1, "iris_class": 0, "model": "a"}]
        assert refused.to_dict("records") == [{"row_id": 2, "reason": "bad"}]

        served = program("-m", "uvicorn", "api:app", "--port", str(port))
        url = f"http://127.0.0.1:{port}"
        served.until(lambda: answers(f"{url}/openapi.json"))
        for _ in range(2):
            typed("kedro_backfill.py", DATABASE_URL=database.url, API_URL=url)
            assert (database.count("predictions"), database.count("dead_letters")) == (5, 1)
            assert database.count("waiting") == 2
