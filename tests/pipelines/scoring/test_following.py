"""Rows of the table, scored as they arrive: within this process, and by `kedro score`."""

import math
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops_for_mle.contract import Contract
from mlops_for_mle.database.schema import ensure_predictions
from mlops_for_mle.errors import UserError
from mlops_for_mle.pipelines.scoring.following import enqueue_unscored, install, uninstall
from tests.end_to_end.commands import Project, finish
from tests.pipelines.scoring.stage import Stage, following
from tests.releases import changed, iris_release
from tests.servers import connection_to, eventually, query, scalar, waiting_for_a_lock

GOOD = (5.1, 3.5, 1.4, 0.2)


@pytest.fixture
def stage(stage):
    """New rows are queued."""
    install(stage.contract)
    return stage


def test_a_prediction_stands_in_the_columns_of_the_tutorial_with_where_it_comes_from(
    stage, release
):
    """Whatever time Postgres can hold."""
    times = ("2026-01-02 03:04:05.678", "infinity", "0044-03-15 12:00:00 BC", None)
    insert = "INSERT INTO iris_data VALUES (:key, CAST(:time AS timestamp), 6.7, 3.3, 5.7, 2.1, 0)"
    for key, time in enumerate(times, 7):
        query(stage.url, insert, key=key, time=time)

    totals = stage.score()

    assert (totals.scored, totals.rejected, stage.waiting()) == (4, 0, 0)
    found = query(
        stage.url,
        "SELECT timestamp::text, iris_class, source, source_id, model_version, release, "
        "scored_at > now() - interval '1 minute' FROM iris_prediction ORDER BY id",
    )
    facts = (1, release.manifest.release, True)
    expected = [(time, 2, "iris_data", key, *facts) for key, time in enumerate(times, 7)]
    assert found == expected


def test_rows_of_every_writer_are_known_once_they_are_committed(stage):
    stage.insert(20)
    stage.insert_row(*GOOD)
    query(
        stage.url,
        "COPY iris_data (sepal_length, sepal_width, petal_length, petal_width, target) "
        "FROM PROGRAM 'printf \"5,3,1,1,0\\n6,3,5,2,1\\n\"' WITH (FORMAT csv)",
    )
    with connection_to(stage.url) as writer:
        # Before all that is scored meanwhile.
        writer.exec_driver_sql("INSERT INTO iris_data VALUES (0, now(), 5, 3, 1, 1, 0)")
        assert stage.score().scored == 23
        writer.commit()

    assert stage.score().scored == 1
    assert (stage.scored(), stage.waiting()) == (24, 0)


def test_a_writer_that_may_not_touch_the_queue_still_fills_it(stage):
    name = f"writer_{scalar(stage.url, 'SELECT md5(current_database())')}"
    query(stage.url, f"CREATE ROLE {name}")
    try:
        query(
            stage.url,
            f"GRANT INSERT ON iris_data TO {name}; "
            f"GRANT USAGE ON SEQUENCE iris_data_id_seq TO {name}; "
            f"SET ROLE {name}; SET search_path = pg_temp; "
            "INSERT INTO public.iris_data (sepal_length, sepal_width, petal_length, petal_width, "
            "target) VALUES (5, 3, 1, 1, 0); RESET ROLE",
        )
        assert stage.waiting() == 1
        with pytest.raises(Exception, match="permission denied"):
            query(stage.url, f"SET ROLE {name}; INSERT INTO scoring_queue VALUES ('iris', 1)")
    finally:
        query(stage.url, f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_what_is_scored_again_has_its_last_outcome_alone(stage):
    statement = "INSERT INTO iris_data VALUES (7, now(), 5, :width, 1.4, 0.2, 0)"
    for width in (math.nan, 3, math.nan):
        query(stage.url, "DELETE FROM iris_data")
        query(stage.url, statement, width=width)
        stage.score()

        rejects = scalar(stage.url, "SELECT count(*) FROM scoring_rejects")
        assert (stage.scored(), rejects) == ((0, 1) if math.isnan(width) else (1, 0))


def test_what_another_worker_writes_at_the_same_moment_is_there_once_and_stops_nothing(stage):
    stage.insert_row(*GOOD)
    assert stage.score().scored == 1
    stage.insert(2)
    with ThreadPoolExecutor(1) as pool, connection_to(stage.url) as other:
        other.exec_driver_sql(
            "INSERT INTO iris_prediction (iris_class, source, source_id, model_version, release) "
            "SELECT iris_class, source, (SELECT max(id) FROM iris_data), model_version, release "
            "FROM iris_prediction"
        )
        scoring = pool.submit(stage.score)
        assert eventually(lambda: waiting_for_a_lock(stage.url) == 1)
        other.commit()
        assert scoring.result(60).scored == 2

    assert (stage.scored(), stage.waiting()) == (3, 0)


def test_a_row_is_scored_by_the_values_that_it_has_when_its_turn_comes_and_then_no_more(stage):
    stage.insert(5)
    key = stage.insert_row(*GOOD)
    change = "UPDATE iris_data SET petal_length = :p, petal_width = :w WHERE id = :id"
    query(stage.url, change, p=5.7, w=2.1, id=key)
    query(stage.url, "DELETE FROM iris_data WHERE id < :id", id=key)

    totals = stage.score(size=3)

    assert (totals.scored, totals.rejected, stage.waiting()) == (1, 0, 0)
    query(stage.url, change, p=1.4, w=0.2, id=key)
    assert stage.score().scored == 0
    assert query(stage.url, "SELECT source_id, iris_class FROM iris_prediction") == [(key, 2)]


def test_rows_from_before_the_first_use_and_corrected_ones_are_scored_when_asked_for(
    empty_stage, release
):
    stage = empty_stage
    stage.insert(29)
    bad = stage.insert_row(5.1, math.nan, 1.4, 0.2)
    assert install(stage.contract) is True
    assert install(stage.contract) is False
    stage.deploy(release)
    stage.insert(3)
    assert stage.score().scored == 3

    stage.insert(2)
    assert enqueue_unscored(stage.contract) == 30
    assert enqueue_unscored(stage.contract) == 0
    assert stage.score().scored == 31
    query(stage.url, "UPDATE iris_data SET sepal_width = 3 WHERE id = :id", id=bad)
    assert enqueue_unscored(stage.contract) == 1
    assert stage.score().scored == 1
    assert enqueue_unscored(stage.contract) == 0
    assert scalar(stage.url, "SELECT count(*) FROM scoring_rejects") == 0

    stage.insert(4)
    assert uninstall(stage.contract) == 4
    stage.insert(5)
    assert stage.waiting() == 0

    # What has the key of a former row is another row.
    query(stage.url, "TRUNCATE iris_data RESTART IDENTITY")
    assert stage.insert_row(*GOOD) == 1
    assert enqueue_unscored(stage.contract) == 1

    # Where the trigger knows the key by a former name, nobody could insert a row.
    query(stage.url, "ALTER TABLE iris_data RENAME id TO number")
    assert install(stage.contract.model_copy(update={"key": "number"})) is True
    query(stage.url, "ALTER TABLE iris_data RENAME number TO id")
    assert install(stage.contract) is True


def test_a_table_whose_key_may_stand_twice_is_refused_before_anything_is_scored(empty_stage):
    url, doubled = empty_stage.url, empty_stage.contract.model_copy(update={"table": "doubled"})
    query(url, "CREATE TABLE doubled (LIKE iris_data)")
    unique = 'CREATE UNIQUE INDEX ON "doubled" ("id")'
    for index in ("SELECT 1", "CREATE UNIQUE INDEX ON doubled (id, timestamp)"):
        query(url, index)
        with pytest.raises(UserError, match=re.escape(unique)):
            install(doubled)
    query(url, unique)
    assert install(doubled)

    columns = "LIKE iris_data, PRIMARY KEY (id, timestamp)"
    query(url, f"CREATE TABLE parted ({columns}) PARTITION BY RANGE (timestamp)")
    assert install(doubled.model_copy(update={"table": "parted"}))
    query(url, "DROP TABLE doubled, parted")


def test_it_waits_for_a_release_and_uses_a_new_one_from_the_next_batch_on(empty_stage, release):
    stage = empty_stage
    install(stage.contract)
    stage.insert(3)
    with pytest.raises(UserError, match="is deployed yet: run `kedro run` first"):
        stage.score()
    with following(stage):
        stage.deploy(release)
        assert eventually(lambda: stage.scored() == 3)
        stage.deploy(iris_release(2))
        stage.insert(2)
        assert eventually(lambda: stage.scored() == 5)

    versions = "SELECT model_version, count(*) FROM iris_prediction GROUP BY 1 ORDER BY 1"
    assert query(stage.url, versions) == [(1, 3), (2, 2)]


def test_two_contracts_on_one_table_score_the_same_rows_each_for_itself(stage, release):
    raw = stage.contract.model_dump(mode="json") | {"name": "iris_two"}
    other = Stage(stage.url, Contract.model_validate(raw), stage.store)
    ensure_predictions(stage.url, other.contract)
    install(other.contract)
    other.deploy(changed(release, contract=other.contract, release="iris_two-v1"))
    stage.insert(6)

    assert stage.score().scored == 6
    assert stage.score().scored == 0
    assert other.score().scored == 6
    assert scalar(stage.url, "SELECT count(*) FROM iris_two_prediction") == 6


def test_the_table_that_the_tutorial_made_is_completed_and_its_program_still_writes(
    empty_database, contract
):
    columns = "id SERIAL PRIMARY KEY, timestamp timestamp, iris_class int"
    query(empty_database, f"CREATE TABLE iris_prediction ({columns})")
    for _ in range(3):
        insert = "INSERT INTO iris_prediction (timestamp, iris_class) VALUES ('2026-01-01', 1)"
        query(empty_database, insert)
        ensure_predictions(empty_database, contract)
    assert scalar(empty_database, "SELECT count(*) FROM iris_prediction") == 3

    # The prediction may get another name.
    target = contract.target.model_copy(update={"response_name": "flower"})
    ensure_predictions(empty_database, contract.model_copy(update={"target": target}))
    assert scalar(empty_database, "SELECT count(flower) FROM iris_prediction") == 0


@pytest.mark.end_to_end
def test_a_first_use_from_nothing_to_predictions(empty_stage, project_folder, release):
    stage = empty_stage
    variables = {"DATABASE_URL": stage.url, "MLOPS_RELEASE_STORE": stage.store}
    project = Project(project_folder, variables)
    stage.insert(5)

    refused = project.kedro("score")
    assert refused.code == 1
    assert "those that are there already are scored by `kedro score --from-s" in refused.output
    assert "Error: Nothing of iris is deployed yet: run `kedro run` first" in refused.errors
    stage.deploy(release)
    said = project.succeed("score", "--from-start").output
    assert said == "Queued 5 row(s) that had no prediction.\nScored 5 row(s).\n"
    stage.insert_row(math.nan, 3, 1, 1)
    stage.insert(2)

    process = project.start("score", "--follow")
    assert eventually(lambda: stage.scored() == 7)
    process.send_signal(signal.SIGINT)
    finished = finish(process, seconds=60)

    assert finished.code == 0, finished.text
    assert "Traceback" not in finished.text
    assert "Scored 2 row(s), rejected 1 (see scoring_rejects)." in finished.output
    assert "queued no longer; 0 waited" in project.succeed("score", "--uninstall").output
