"""What the programs of part 1 must do: bring tables up to date, and insert rows safely."""

import re
import signal
from pathlib import Path
from threading import Timer

import psycopg2
import pytest
import yaml

from course.conftest import not_copied
from course.hints import hint, within

FLOWER = (5.1, 3.5, 1.4, 0.2, 0)
FAST = {"INTERVAL_SECONDS": "0.01"}


@pytest.fixture
def connection(learner, database):
    """A connection by the learner's connect() to a database with the learner's tables."""
    connection = learner.database.connect(database.url)
    learner.migrate.migrate(connection)
    yield connection
    connection.close()


def test_connect_waits_until_the_database_is_ready(learner, database):
    database.cut()
    Timer(1, database.mend).start()
    with hint(
        "connect() gives up at the first refusal: catch psycopg2.OperationalError and try again.",
        "connect()가 첫 번째 거절에서 포기합니다. psycopg2.OperationalError를 잡아 다시 시도하십시오.",
    ):
        assert learner.database.connect(database.url).closed == 0


def test_connect_does_not_wait_for_ever(learner, port):
    with (
        hint(
            "connect() must raise the last OperationalError when `patience` seconds are over.",
            "`patience`초가 지나면 connect()는 마지막 OperationalError를 일으켜야 합니다.",
        ),
        within(5),
        pytest.raises(psycopg2.OperationalError),
    ):
        learner.database.connect(f"postgresql://me@127.0.0.1:{port}/none", patience=0.5)


def test_migrate_makes_the_table_of_the_specification(connection, database):
    with hint(
        "After migrate(), another connection must find iris_data with the specification's columns, in this "
        "order. It finds nothing where nothing was committed: `with connection:`.",
        "migrate() 다음에는 다른 연결에서 볼 때 iris_data에 명세의 열이 같은 순서로 있어야 합니다. 커밋하지 "
        "않으면 아무것도 보이지 않습니다. `with connection:`을 쓰십시오.",
    ):
        columns = database.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_name = 'iris_data' ORDER BY ordinal_position"
        )
        number = "double precision"
        assert columns == [
            ("id", "integer"),
            ("timestamp", "timestamp without time zone"),
            ("sepal_length", number),
            ("sepal_width", number),
            ("petal_length", number),
            ("petal_width", number),
            ("target", "integer"),
            ("source", "text"),
        ]


def test_migrate_brings_an_older_table_up_to_date_and_keeps_its_rows(learner, database):
    connection = learner.database.connect(database.url)
    newest = learner.migrate.MIGRATIONS
    with hint(
        "A table of revision 1 with a row must become one of revision 2 with that row. Apply only "
        "what schema_revisions does not have, and drop nothing.",
        "행이 있는 리비전 1의 테이블은 그 행을 그대로 둔 채 리비전 2가 되어야 합니다. schema_revisions에 "
        "없는 마이그레이션만 적용하고, 아무것도 지우지 마십시오.",
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learner.migrate, "MIGRATIONS", newest[:1])
            assert learner.migrate.migrate(connection) == 1
        database.query("INSERT INTO iris_data (sepal_length, target) VALUES (5.1, 0)")
        assert learner.migrate.migrate(connection) == 2
        assert learner.migrate.migrate(connection) == 2
        assert database.query("SELECT sepal_length, source FROM iris_data") == [(5.1, "unknown")]


def test_a_migration_that_fails_leaves_nothing_behind(learner, connection, database, monkeypatch):
    migrations = learner.migrate.MIGRATIONS
    unrecorded = "CREATE TABLE half (id int)"
    database.query(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON schema_revisions
        FOR EACH ROW WHEN (NEW.revision = 3) EXECUTE FUNCTION refuse();
        """
    )
    with hint(
        "A migration and its line in schema_revisions belong into one transaction: `with connection:`.",
        "마이그레이션과 schema_revisions의 기록은 하나의 트랜잭션이어야 합니다. `with connection:`을 쓰십시오.",
    ):
        for broken in (unrecorded, f"{unrecorded}; SELECT 1 / 0"):
            monkeypatch.setattr(learner.migrate, "MIGRATIONS", [*migrations, broken])
            with pytest.raises(psycopg2.Error):
                learner.migrate.migrate(connection)
        assert database.query("SELECT to_regclass('half')") == [(None,)]
        assert database.query("SELECT max(revision) FROM schema_revisions") == [(2,)]


def test_rows_are_inserted(learner, connection, database):
    with hint(
        "insert_rows() must insert every row and commit: other connections see only what is committed.",
        "insert_rows()는 모든 행을 넣고 커밋해야 합니다. 다른 연결에는 커밋된 것만 보입니다.",
    ):
        learner.generator.insert_rows(connection, [FLOWER, FLOWER], "check")
        assert database.query(
            "SELECT sepal_length, petal_width, target, source FROM iris_data"
        ) == [
            (5.1, 0.2, 0, "check"),
            (5.1, 0.2, 0, "check"),
        ]


def test_a_batch_is_inserted_whole_or_not_at_all(learner, connection, database):
    with hint(
        "The second row of a batch is bad: then its first one must not stay, and the next batch must work. Insert "
        "a batch in one transaction that is rolled back when it fails: `with connection:`.",
        "배치의 두 번째 행이 잘못되었습니다. 첫 번째 행이 남아서는 안 되고, 다음 배치는 저장되어야 합니다. 배치 하나를 "
        "실패하면 롤백되는 한 트랜잭션으로 넣으십시오. `with connection:`을 쓰십시오.",
    ):
        with pytest.raises(psycopg2.Error):
            learner.generator.insert_rows(connection, [FLOWER, (*FLOWER[:4], "rose")], "check")
        assert database.count("iris_data") == 0
        learner.generator.insert_rows(connection, [FLOWER], "check")
        assert database.count("iris_data") == 1


def test_text_from_outside_never_becomes_sql(learner, connection, database):
    evil = "'); DROP TABLE iris_data; --"
    with hint(
        "`source` must be stored and never run as SQL. Write %s into the statement and give the value beside it.",
        "`source`는 SQL로 실행되지 않고 값으로 저장되어야 합니다. 문장에는 %s를 쓰고 값은 따로 넘기십시오.",
    ):
        learner.generator.insert_rows(connection, [FLOWER], evil)
        assert database.query("SELECT source FROM iris_data") == [(evil,)]


def test_settings_come_from_the_environment(learner):
    variables = {"ROWS_PER_BATCH": "5", "INTERVAL_SECONDS": "0.5", "BATCHES": "3", "SOURCE": "me"}
    with hint(
        "read_settings() must turn the variables into numbers, and know the defaults.",
        "read_settings()는 변수를 숫자로 바꾸고, 변수가 없으면 기본값을 써야 합니다.",
    ):
        read = learner.generator.read_settings
        assert read(variables) == learner.generator.Settings(5, 0.5, 3, "me")
        assert read({}) == learner.generator.Settings(1, 1.0, None, "generator")


def test_a_wrong_setting_ends_the_program_with_a_sentence(connection, database, program):
    ended = program("generator.py", DATABASE_URL=database.url, ROWS_PER_BATCH="ten")
    with hint(
        "For ROWS_PER_BATCH=ten the program must end with status 1 and a sentence that names the "
        "variable, not with a traceback: raise SystemExit.",
        "ROWS_PER_BATCH=ten이면 프로그램은 트레이스백이 아니라 변수 이름이 든 한 문장과 종료 상태 1로 "
        "끝나야 합니다. SystemExit를 일으키십시오.",
    ):
        assert ended.ends() == 1
        assert "ROWS_PER_BATCH" in ended.output
        assert not re.search('Traceback|^ *File "', ended.output, re.M)


def test_the_generator_inserts_the_batches_it_was_told(connection, database, program):
    running = program(
        "generator.py", DATABASE_URL=database.url, ROWS_PER_BATCH="5", BATCHES="3", **FAST
    )
    with hint(
        "With ROWS_PER_BATCH=5 and BATCHES=3 the program must insert 15 rows and end.",
        "ROWS_PER_BATCH=5, BATCHES=3이면 프로그램은 15개의 행을 넣고 끝나야 합니다.",
    ):
        running.succeeds()
        assert database.count("iris_data") == 15


def test_kill_9_leaves_no_half_batch(connection, database, program):
    database.query(
        """
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep(CASE WHEN NEW.id = 8 THEN 20 ELSE 0 END); RETURN NEW; END $$;
        CREATE TRIGGER slow BEFORE INSERT ON iris_data FOR EACH ROW EXECUTE FUNCTION wait();
        """
    )
    running = program("generator.py", DATABASE_URL=database.url, ROWS_PER_BATCH="5", **FAST)
    sleeping = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with hint(
        "The generator was killed at the eighth row; of batches of five only the first may remain.",
        "생성기가 여덟 번째 행에서 죽었습니다. 다섯 행짜리 배치 중에서는 첫 번째만 남아야 합니다.",
    ):
        running.until(lambda: database.query(sleeping))
        running.stop(signal.SIGKILL)
        running.ends()
        assert database.count("iris_data") == 5


def test_the_generator_goes_on_when_the_database_has_come_back(connection, database, program):
    running = program("generator.py", DATABASE_URL=database.url, BATCHES="100", **FAST)
    with hint(
        "The database went away for a moment, and the generator ended with it, or left out a batch. Catch "
        "OperationalError and InterfaceError around insert_rows(), connect again, and repeat the batch.",
        "데이터베이스가 잠시 사라지자 생성기도 끝났거나 배치 하나를 빠뜨렸습니다. insert_rows()에서 "
        "OperationalError와 InterfaceError를 잡아 다시 연결하고, 같은 배치를 다시 넣으십시오.",
    ):
        # More than once: a cut that falls into a COMMIT may come too late for its batch.
        for more in (2, 30, 60):
            running.until(lambda more=more: database.count("iris_data") > more)
            database.cut()
            database.mend()
        running.succeeds()
        assert database.count("iris_data") >= 100


def test_the_image_holds_what_the_generator_needs(dockerfile: str):
    with hint(
        "The image needs psycopg2-binary, the three programs and iris.csv, a user of its own and a CMD.",
        "이미지에는 psycopg2-binary, 프로그램 세 개와 iris.csv, 별도의 사용자, CMD가 필요합니다.",
    ):
        assert not_copied(dockerfile, "database.py", "migrate.py", "generator.py", "iris.csv") == []
        for wanted in ("psycopg2-binary", "\nUSER ", "\nCMD "):
            assert wanted in dockerfile


def test_compose_starts_the_generator_when_the_database_is_healthy(work: Path, services):
    with hint(
        "postgres needs a healthcheck and a named volume at /var/lib/postgresql; generator must wait for "
        "`condition: service_healthy` and reach the database by its service's name, not localhost.",
        "postgres에는 healthcheck와 /var/lib/postgresql의 이름 있는 볼륨이 필요합니다. generator는 `condition: service_healthy`를 "
        "기다리고, localhost가 아니라 서비스 이름으로 데이터베이스에 접속해야 합니다.",
    ):
        postgres, generator = services["postgres"], services["generator"]
        assert "pg_isready" in str(postgres["healthcheck"]["test"])
        named = yaml.safe_load((work / "compose.yaml").read_text("utf-8"))["volumes"]
        places = [one.split(":")[:2] for one in postgres["volumes"]]
        assert [one for one in places if one[0] in named and one[1] == "/var/lib/postgresql"]
        assert generator["depends_on"]["postgres"]["condition"] == "service_healthy"
        assert re.search(r"@postgres(:5432)?/", generator["environment"]["DATABASE_URL"])


def test_the_kedro_node_draws_rows_and_the_catalog_stores_them(
    learner, connection, database, typed
):
    import pandas as pd

    flowers = pd.DataFrame([FLOWER], columns=["a", "b", "c", "d", "target"])
    with hint(
        "draw_rows() must give as many rows as it is told, with a column source; catalog.yml must "
        "append them to iris_data.",
        "draw_rows()는 정해진 수만큼의 행을 source 열과 함께 내놓아야 하고, catalog.yml은 그 행을 "
        "iris_data에 덧붙여야 합니다.",
    ):
        drawn = learner.kedro_generator.draw_rows(flowers, 7)
        assert (len(drawn), set(drawn["source"])) == (7, {"kedro"})
        database.query("INSERT INTO iris_data DEFAULT VALUES")
        typed("kedro_generator.py", DATABASE_URL=database.url)
        assert database.query("SELECT count(*), min(source) FROM iris_data") == [(6, "kedro")]
