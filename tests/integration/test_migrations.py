"""The tables: made once, by whoever comes first, and as the code describes them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from mlops_for_mle.migrations import alembic_configuration, head_revision
from sqlalchemy import CheckConstraint, text

from mlops_for_mle import database, monitoring_log, retraining_log
from mlops_for_mle.contract import Contract
from mlops_for_mle.database.tables import metadata
from mlops_for_mle.errors import PrerequisiteError, UserError
from tests.integration.servers import connection_to, query, scalar
from tests.mixed import MIXED_CONTRACT
from tests.unit.conftest import SMALL_CONTRACT

pytestmark = pytest.mark.integration

PREPARE = """
import sys
from pathlib import Path
import yaml
from mlops_for_mle import database
from mlops_for_mle.contract import Contract

url, contract = sys.argv[1:]
parsed = Contract.model_validate(yaml.safe_load(Path(contract).read_text("utf-8"))["contract"])
import mlops_for_mle.migrations
print("ready", flush=True)
sys.stdin.readline()
print(database.upgrade(url), database.ensure_observations(url, parsed))
"""


def test_the_revision_that_the_code_expects_is_the_newest_migration() -> None:
    assert head_revision() == database.HEAD_REVISION


def test_migrations_make_exactly_the_tables_that_the_code_describes(empty_database: str) -> None:
    assert database.upgrade(empty_database) is True

    with connection_to(empty_database) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    checks = query(
        empty_database,
        "SELECT conname FROM pg_constraint WHERE contype = 'c' "
        "AND connamespace = 'public'::regnamespace",
    )
    described = {
        constraint.name
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert {name for (name,) in checks} == described


def test_monitoring_runs_of_the_revision_before_are_kept(empty_database: str) -> None:
    with connection_to(empty_database) as connection:
        configuration = alembic_configuration()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0004")
        connection.commit()
    query(
        empty_database,
        "INSERT INTO monitoring_runs (contract, release, model_version, prediction_count, "
        "labelled_count, status, reasons) VALUES ('iris', 'iris-v1', 1, 500, 120, 'healthy', '[]')",
    )

    assert database.upgrade(empty_database) is True

    with connection_to(empty_database) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        run = monitoring_log.newest(connection, "iris")
        assert run is not None
        assert (run.labelled_count, run.labelled_from, run.labelled_to) == (120, None, None)
        history = retraining_log.unanswered(connection, "iris", "iris-v1")
        assert history.labelled_findings == ()


def test_upgrading_again_changes_nothing(empty_database: str, contract: Contract) -> None:
    database.prepare(empty_database, contract)
    query(empty_database, "INSERT INTO iris_data VALUES (DEFAULT, DEFAULT, 1, 1, 1, 1, 1)")

    assert database.upgrade(empty_database) is False
    assert database.ensure_observations(empty_database, contract) is False
    assert scalar(empty_database, "SELECT count(*) FROM iris_data") == 1


def test_threads_that_upgrade_an_empty_database_at_once_make_the_tables_once(
    empty_database: str, contract: Contract
) -> None:
    def upgrade(_: int) -> tuple[bool, bool]:
        return (
            database.upgrade(empty_database),
            database.ensure_observations(empty_database, contract),
        )

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(upgrade, range(4)))

    assert sorted(changed for changed, _ in outcomes) == [False, False, False, True]
    assert sorted(made for _, made in outcomes) == [False, False, False, True]
    database.require_tables(empty_database)


def test_processes_that_upgrade_an_empty_database_at_once_make_the_tables_once(
    empty_database: str,
) -> None:
    contract = Path(__file__).parents[2] / "conf/base/parameters_contract.yml"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, empty_database, contract],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0], outputs
    answers = [output.split() for output, _ in outputs]
    assert sorted(changed for changed, _ in answers) == ["False", "True"]
    assert sorted(made for _, made in answers) == ["False", "True"]


def test_the_table_of_observations_has_the_columns_of_the_tutorial(
    empty_database: str, contract: Contract
) -> None:
    assert database.ensure_observations(empty_database, contract) is True

    columns = query(
        empty_database,
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_name = 'iris_data' ORDER BY ordinal_position",
    )
    assert columns == [
        ("id", "integer", "NO"),
        ("timestamp", "timestamp without time zone", "YES"),
        ("sepal_length", "double precision", "NO"),
        ("sepal_width", "double precision", "NO"),
        ("petal_length", "double precision", "NO"),
        ("petal_width", "double precision", "NO"),
        ("target", "integer", "NO"),
    ]
    default = "SELECT pg_get_serial_sequence('iris_data', 'id')"
    assert scalar(empty_database, default) == "public.iris_data_id_seq"


def test_a_table_that_lacks_a_column_of_the_contract_is_refused_in_one_sentence(
    empty_database: str, contract: Contract
) -> None:
    query(empty_database, "CREATE TABLE iris_data (id serial PRIMARY KEY, sepal_length float8)")

    with pytest.raises(UserError) as raised:
        database.prepare(empty_database, contract)

    message = str(raised.value)
    assert message.count("\n") == 0
    assert "iris_data" in message
    for column in ("timestamp", "sepal_width", "petal_length", "petal_width", "target"):
        assert column in message
    assert "sepal_length" not in message
    assert scalar(empty_database, "SELECT count(*) FROM iris_data") == 0


def columns_of(url: str, table: str) -> dict[str, tuple[str, str]]:
    rows = query(
        url,
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        f"WHERE table_name = '{table}' ORDER BY ordinal_position",
    )
    return {name: (kind, nullable) for name, kind, nullable in rows}


def test_a_table_of_every_type_and_free_names_is_made(empty_database: str) -> None:
    assert database.ensure_observations(empty_database, MIXED_CONTRACT) is True
    assert database.ensure_observations(empty_database, MIXED_CONTRACT) is False

    assert columns_of(empty_database, MIXED_CONTRACT.table) == {
        "id": ("integer", "NO"),
        "timestamp": ("timestamp without time zone", "YES"),
        "월 요금": ("numeric", "YES"),
        "Usage (GB)": ("double precision", "YES"),
        "select": ("bigint", "YES"),
        "is new": ("boolean", "YES"),
        'the "plan"': ("text", "NO"),
        "channel": ("text", "YES"),
        "region code": ("bigint", "YES"),
        "가입일": ("date", "NO"),
        "last seen": ("timestamp without time zone", "YES"),
        "left?": ("text", "NO"),
    }


def test_a_changed_contract_says_what_would_change_and_changes_nothing_unasked(
    empty_database: str,
) -> None:
    raw = MIXED_CONTRACT.model_dump()
    features = {name: one for name, one in raw["features"].items() if name != "Usage (GB)"}
    features["select"] = features["select"] | {"missing": "reject", "constant": None}
    before = Contract.model_validate(raw | {"features": features})
    database.ensure_observations(empty_database, before)
    query(empty_database, 'ALTER TABLE "Churn 데이터" ADD COLUMN "100% note" text NOT NULL')
    columns = columns_of(empty_database, MIXED_CONTRACT.table)

    with pytest.raises(UserError) as raised:
        database.prepare(empty_database, MIXED_CONTRACT)

    message = str(raised.value)
    assert "column Usage (GB) would be added (double precision)" in message
    assert "column select would no longer be NOT NULL (the contract allows missing" in message
    assert "column 100% note would no longer be NOT NULL (the contract does not know" in message
    assert "kedro db upgrade --yes" in message
    assert columns_of(empty_database, MIXED_CONTRACT.table) == columns

    assert database.ensure_observations(empty_database, MIXED_CONTRACT, bool) is True
    changed = columns_of(empty_database, MIXED_CONTRACT.table)
    assert changed["Usage (GB)"] == ("double precision", "YES")
    assert changed["select"] == ("bigint", "YES")
    assert changed["100% note"] == ("text", "YES")
    assert database.ensure_observations(empty_database, MIXED_CONTRACT) is False


def test_a_column_that_may_have_been_renamed_is_named_with_the_statement_that_renames_it(
    empty_database: str,
) -> None:
    database.ensure_observations(empty_database, SMALL_CONTRACT)
    raw = SMALL_CONTRACT.model_dump()
    features = {f"{name} (mm)": one for name, one in raw["features"].items()}
    renamed = Contract.model_validate(raw | {"features": features})

    with pytest.raises(UserError) as raised:
        database.ensure_observations(empty_database, renamed)

    statement = 'ALTER TABLE "small_data" RENAME COLUMN "width" TO "width (mm)"'
    assert (
        f"if it is width under a new name, rename that first: `kedro db psql -c '{statement}"
        in (str(raised.value))
    )
    query(empty_database, statement)
    query(empty_database, statement.replace("width", "count"))
    assert database.ensure_observations(empty_database, renamed) is False


def test_a_column_of_another_type_is_left_to_its_owner(empty_database: str) -> None:
    database.ensure_observations(empty_database, MIXED_CONTRACT)
    query(empty_database, 'ALTER TABLE "Churn 데이터" ALTER COLUMN "select" TYPE text')

    with pytest.raises(UserError, match="column select has the type text, the contract needs big"):
        database.ensure_observations(empty_database, MIXED_CONTRACT, bool)

    assert columns_of(empty_database, MIXED_CONTRACT.table)["select"] == ("text", "YES")


def test_rows_that_are_there_stay_when_a_column_is_added(empty_database: str) -> None:
    query(
        empty_database,
        "CREATE TABLE small_data (id serial PRIMARY KEY, timestamp timestamp, width float8, "
        "kind int); INSERT INTO small_data (width, kind) VALUES (1, 0)",
    )

    assert database.ensure_observations(empty_database, SMALL_CONTRACT, bool) is True

    assert query(empty_database, "SELECT width, count, kind FROM small_data") == [(1.0, None, 0)]


def test_a_table_with_more_columns_than_the_contract_is_taken_as_it_is(
    empty_database: str, contract: Contract
) -> None:
    database.ensure_observations(empty_database, contract)
    query(empty_database, "ALTER TABLE iris_data ADD COLUMN note text")

    assert database.ensure_observations(empty_database, contract) is False


def test_tables_of_a_newer_program_are_left_alone(empty_database: str) -> None:
    database.upgrade(empty_database)
    query(empty_database, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(UserError, match="9999, newer than this program's"):
        database.upgrade(empty_database)
    assert scalar(empty_database, "SELECT version_num FROM alembic_version") == "9999"


def test_missing_tables_are_reported_with_the_command_that_makes_them(empty_database: str) -> None:
    with pytest.raises(PrerequisiteError, match="run `kedro db upgrade` first"):
        database.require_tables(empty_database)
    with connection_to(empty_database) as connection:
        assert connection.scalar(text("SELECT to_regclass('ingestion_batches')")) is None


def test_an_upgrade_that_fails_half_way_leaves_no_table(empty_database: str) -> None:
    query(empty_database, "CREATE TABLE deployments (note text)")

    with pytest.raises(Exception, match="already exists"):
        database.upgrade(empty_database)

    tables = query(
        empty_database,
        "SELECT relname FROM pg_class WHERE relkind = 'r' "
        "AND relnamespace = 'public'::regnamespace",
    )
    assert tables == [("deployments",)]
    query(empty_database, "DROP TABLE deployments")
    assert database.upgrade(empty_database) is True


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    url = "postgresql+psycopg2://owner:secret-word@127.0.0.1:1/absent"
    with pytest.raises(database.DatabaseUnavailableError) as raised:
        database.upgrade(url)
    assert "'absent' at 127.0.0.1:1 is not available" in str(raised.value)
    assert "secret-word" not in str(raised.value)
