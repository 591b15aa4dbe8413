"""What the programs of part 7 must do with messages, whoever dies when."""

import json
import re
import secrets
import signal
from pathlib import Path

import pytest

from course.conftest import not_copied
from course.hints import hint
from tests.servers import eventually

ROW = {
    "id": 7,
    "sepal_length": 5.1,
    "sepal_width": 3.5,
    "petal_length": 1.4,
    "petal_width": 0.2,
    "target": 0,
}
BARE = json.dumps(ROW).encode()


@pytest.fixture
def connection(learner, database):
    """A connection to a database with the learner's tables."""
    connection = learner.database.connect(database.url)
    learner.consumer.create_tables(connection)
    yield connection
    connection.close()


@pytest.fixture
def consume(broker, database, program):
    """Starts a consumer of the learner, of one group unless another is given."""
    group = f"group-{secrets.token_hex(4)}"

    def start(topic: str, **variables: str):
        given = {"KAFKA_BOOTSTRAP_SERVERS": broker.servers, "DATABASE_URL": database.url}
        return program("consumer.py", **given, TOPIC=topic, **{"GROUP_ID": group} | variables)

    start.group = group
    return start


@pytest.fixture
def committed(broker, consume):
    """How many messages of a topic the group has done with."""

    def count(topic: str) -> int:
        return sum(max(one, 0) for one in broker.committed(topic, consume.group).values())

    return count


def test_a_row_goes_into_an_envelope(learner):
    with hint(
        'wrap() must give {"schema": …, "payload": …} as JSON in bytes; the schema names each column with its type.',
        'wrap()는 {"schema": …, "payload": …}를 JSON 바이트로 내놓아야 합니다. 스키마에는 각 열의 이름과 타입이 있습니다.',
    ):
        document = json.loads(learner.messages.wrap(ROW))
        assert document["payload"] == ROW
        assert document["schema"]["type"] == "struct"
        fields = [(one["field"], one["type"]) for one in document["schema"]["fields"]]
        assert fields == list(learner.messages.COLUMNS.items())
        assert [one["field"] for one in document["schema"]["fields"] if one["optional"]] == [
            "target"
        ]


def test_a_row_is_read_with_and_without_an_envelope(learner):
    read = learner.messages.read_row
    with hint(
        "read_row() must give the columns of COLUMNS, out of an envelope or a bare object; only target may be missing.",
        "read_row()는 봉투에서든 봉투 없는 객체에서든 COLUMNS의 열을 내놓아야 합니다. 없어도 되는 열은 target뿐입니다.",
    ):
        assert read(BARE) == ROW
        assert read(json.dumps({"schema": {}, "payload": ROW}).encode()) == ROW
        assert read(json.dumps({"more": 1} | ROW).encode()) == ROW
        without = {name: value for name, value in ROW.items() if name != "target"}
        assert read(json.dumps(without).encode()) == ROW | {"target": None}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, ""),
        (b"no JSON", ""),
        (b"\xff\xfe\xfd", ""),
        (b"[" * 100_000, ""),
        (b"[1, 2]", ""),
        (b'{"schema": {}, "payload": null}', ""),
        (b"{}", "id"),
        (BARE.replace(b"5.1", b'"long"'), "sepal_length"),
        (BARE.replace(b"3.5", b"true"), "sepal_width"),
        (BARE.replace(b"1.4", b"NaN"), "petal_length"),
        (BARE.replace(b"0.2", b"1" + b"0" * 400), "petal_width"),
        (BARE.replace(b"7", b"3000000000"), "id"),
    ],
    ids=[
        "a_tombstone",
        "no_json",
        "no_text",
        "a_nest_without_end",
        "a_list",
        "an_empty_envelope",
        "no_columns",
        "text_for_a_number",
        "a_boolean",
        "not_a_number",
        "too_large_for_float8",
        "too_large_for_int",
    ],
)
def test_what_is_no_row_is_refused_with_a_reason(learner, value, said):
    with (
        hint(
            f"read_row() must raise ValueError with a reason ({said or 'what is wrong'}) and nothing else: "
            "any other error ends the consumer, again and again.",
            f"read_row()는 이유({said or '무엇이 잘못되었는지'})가 든 ValueError만 일으켜야 합니다. "
            "다른 오류는 컨슈머를 거듭 끝나게 합니다.",
        ),
        pytest.raises(ValueError, match=said or "."),
    ):
        learner.messages.read_row(value)


def test_a_topic_is_made_once(learner, broker):
    topic = f"made-{secrets.token_hex(4)}"
    with hint(
        "make_topic() must wait for the result of create_topics(), and be content with a topic that is there.",
        "make_topic()은 create_topics()의 결과를 기다려야 하고, 토픽이 이미 있으면 그대로 두어야 합니다.",
    ):
        for _ in range(2):
            learner.producer.make_topic(broker.servers, topic, 3)
        assert broker.partitions(topic) == [0, 1, 2]


def test_messages_are_sent_and_confirmed(learner, broker):
    topic = broker.make_topic(2)
    with hint(
        "When send() returns, every message must be in the topic: flush() waits for the confirmations.",
        "send()가 끝났을 때는 모든 메시지가 토픽에 있어야 합니다. flush()가 확인을 기다립니다.",
    ):
        places = learner.producer.send(
            broker.servers, topic, [(str(one % 7), str(one).encode()) for one in range(70)]
        )
        found = broker.read(topic)
        assert sorted(int(one.value()) for one in found) == list(range(70))
        assert sorted(places) == sorted((one.partition(), one.offset()) for one in found)
    with hint(
        "Messages with one key must lie in one partition, in their order: give produce() the key.",
        "키가 같은 메시지는 한 파티션에 순서대로 있어야 합니다. produce()에 키를 넘기십시오.",
    ):
        for key in map(str, range(7)):
            own = [one for one in found if one.key() == key.encode()]
            assert len({one.partition() for one in own}) == 1
            values = [int(one.value()) for one in sorted(own, key=lambda one: one.offset())]
            assert values == sorted(values)


def test_what_was_not_confirmed_was_not_sent(learner, port):
    from confluent_kafka import KafkaException

    with (
        hint(
            "No broker answers, so send() must raise KafkaException when `patience` is over: on_delivery tells errors.",
            "응답하는 브로커가 없으므로 `patience`가 지나면 send()는 KafkaException을 일으켜야 합니다. 오류는 on_delivery로 옵니다.",
        ),
        pytest.raises(KafkaException),
    ):
        learner.producer.send(f"127.0.0.1:{port}", "none", [(None, b"lost")], patience=1)


def test_each_message_is_written_under_its_place(learner, connection, database, broker):
    topic = broker.make_topic()
    broker.send(topic, [BARE, b"no JSON", None, learner.messages.wrap(ROW)])
    with hint(
        "write() must put each row into iris_sink, and what is none into dead_letters, with topic, partition and offset.",
        "write()는 행은 iris_sink에, 행이 아닌 것은 dead_letters에 토픽, 파티션, 오프셋과 함께 저장해야 합니다.",
    ):
        assert tuple(learner.consumer.write(connection, broker.read(topic))) == (2, 2)
        found = database.query('SELECT * FROM iris_sink ORDER BY "offset"')
        assert found == [(topic, 0, offset, *ROW.values()) for offset in (0, 3)]
        dead = database.query('SELECT "offset", value, reason FROM dead_letters ORDER BY "offset"')
        assert [(offset, value and bytes(value)) for offset, value, _ in dead] == [
            (1, b"no JSON"),
            (2, None),
        ]
        assert all(reason for *_, reason in dead)


def test_a_message_that_comes_twice_is_written_once(learner, connection, database, broker):
    topic = broker.make_topic()
    broker.send(topic, [BARE, b"no JSON"])
    with hint(
        "The same messages came again. Place them under PRIMARY KEY (topic, partition, offset), with ON CONFLICT DO NOTHING.",
        "같은 메시지가 다시 왔습니다. PRIMARY KEY (topic, partition, offset)를 두고 ON CONFLICT DO NOTHING을 쓰십시오.",
    ):
        for _ in range(2):
            learner.consumer.write(connection, broker.read(topic))
        assert (database.count("iris_sink"), database.count("dead_letters")) == (1, 1)


def test_the_consumer_begins_at_the_beginning_and_ends_when_told(
    connection, database, broker, consume, committed
):
    topic = broker.make_topic(2)
    broker.send(topic, [BARE] * 5 + [b"no JSON"])
    with hint(
        "With MESSAGES=6 the consumer must write what was sent before it began, commit, and end with status 0.",
        "MESSAGES=6이면 컨슈머는 시작하기 전에 보낸 것까지 저장하고, 커밋하고, 상태 0으로 끝나야 합니다.",
    ):
        consume(topic, MESSAGES="6").succeeds()
        assert (database.count("iris_sink"), database.count("dead_letters")) == (5, 1)
        assert committed(topic) == 6


def test_a_signal_ends_the_consumer_in_order(connection, database, broker, consume):
    topic = broker.make_topic()
    broker.send(topic, [BARE])
    running = consume(topic)
    with hint(
        "At SIGTERM the consumer must leave its loop, close(), and end with status 0.",
        "SIGTERM을 받으면 컨슈머는 반복문을 벗어나 close()를 호출하고 상태 0으로 끝나야 합니다.",
    ):
        running.until(lambda: database.count("iris_sink") == 1)
        running.stop(signal.SIGTERM)
        assert running.ends() == 0


SLOW = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
CREATE {when} ON iris_sink {moment} FOR EACH ROW
WHEN (NEW."offset" = 3) EXECUTE FUNCTION wait();
"""
SLEEPING = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


def test_kill_9_before_the_rows_are_written_loses_none(
    connection, database, broker, consume, committed
):
    topic = broker.make_topic()
    broker.send(topic, [BARE] * 10)
    database.query(SLOW.format(when="TRIGGER slow BEFORE INSERT", moment=""))
    running = consume(topic)
    with hint(
        "The consumer was killed before its rows were written, and the next one did not get them. Commit offsets "
        "after write(), and set enable.auto.commit to False.",
        "행을 저장하기 전에 컨슈머가 죽었는데, 다음 컨슈머가 그 행을 받지 못했습니다. 오프셋은 write() 다음에 "
        "커밋하고 enable.auto.commit은 False로 두십시오.",
    ):
        running.until(lambda: database.query(SLEEPING))
        running.stop(signal.SIGKILL)
        running.ends()
        consume(topic).until(lambda: committed(topic) == 10)
        assert database.count("iris_sink") == 10


def test_kill_9_between_rows_and_offsets_doubles_none(
    connection, database, broker, consume, committed
):
    topic = broker.make_topic()
    broker.send(topic, [BARE] * 10)
    # It waits while COMMIT is done, which the server ends without its client.
    moment = "DEFERRABLE INITIALLY DEFERRED"
    database.query(SLOW.format(when="CONSTRAINT TRIGGER slow AFTER INSERT", moment=moment))
    running = consume(topic)
    with hint(
        "The consumer was killed when its rows were written and its offsets were not. The next one must read them "
        "again, write none twice, and commit.",
        "행은 저장되었지만 오프셋은 커밋되지 않은 때에 컨슈머가 죽었습니다. 다음 컨슈머는 같은 메시지를 다시 읽고, "
        "두 번 저장하지 않고, 커밋해야 합니다.",
    ):
        running.until(lambda: database.query(SLEEPING))
        running.stop(signal.SIGKILL)
        running.ends()
        assert eventually(lambda: database.count("iris_sink") == 10)
        assert committed(topic) == 0
        consume(topic).until(lambda: committed(topic) == 10)
        assert database.count("iris_sink") == 10


def test_two_consumers_of_a_group_share_the_partitions(connection, database, broker, consume):
    topic = broker.make_topic(2)
    both = consume(topic), consume(topic)

    def has(one) -> str:
        lines = [line for line in one.output.splitlines() if line.startswith("Partitions:")]
        return lines[-1].removeprefix("Partitions:").strip() if lines else ""

    with hint(
        "Two consumers with one GROUP_ID must get one partition each, and when one is killed, the other gets both.",
        "GROUP_ID가 같은 두 컨슈머는 파티션을 하나씩 받아야 하고, 하나가 죽으면 다른 하나가 둘 다 받아야 합니다.",
    ):
        both[0].until(lambda: sorted(map(has, both)) == ["0", "1"])
        both[0].stop(signal.SIGKILL)
        both[1].until(lambda: has(both[1]) == "0, 1")
        broker.send(topic, [BARE] * 10)
        both[1].until(lambda: database.count("iris_sink") == 10)


def test_an_error_of_the_client_is_no_message(connection, database, broker, consume):
    topic = f"later-{secrets.token_hex(4)}"
    running = consume(topic)
    with hint(
        "The topic was made after the consumer had begun. What consume() gives may be an error: look at message.error() "
        "before you take it for a message.",
        "컨슈머가 시작한 뒤에 토픽을 만들었습니다. consume()이 내놓은 것은 오류일 수 있으므로, 메시지로 다루기 전에 "
        "message.error()를 보십시오.",
    ):
        running.until(lambda: topic in running.output or "Unknown topic" in running.output)
        broker.make_topic(1, topic)
        broker.send(topic, [BARE])
        running.until(lambda: database.count("iris_sink") == 1)
        assert database.count("dead_letters") == 0


@pytest.mark.parametrize("away", ["broker", "database"])
def test_what_was_away_and_came_back_costs_no_message(
    connection, database, broker, consume, committed, away
):
    topic = broker.make_topic()
    broker.send(topic, [BARE])
    network = broker.relay if away == "broker" else database
    running = consume(topic)
    with hint(
        f"The {away} was away for a moment. The consumer must go on, with the same batch if it was not written.",
        f"{'브로커' if away == 'broker' else '데이터베이스'}가 잠시 사라졌습니다. 컨슈머는 계속 실행되어야 하고, 저장하지 못한 배치는 다시 저장해야 합니다.",
    ):
        running.until(lambda: committed(topic) == 1)
        network.cut()
        network.mend()
        broker.send(topic, [BARE] * 2)
        running.until(lambda: committed(topic) == 3)
        assert database.count("iris_sink") == 3


def test_the_image_holds_what_the_consumer_needs(dockerfile: str):
    with hint(
        "The image needs confluent-kafka and psycopg2-binary, the consumer with what it imports and reads, a USER and a CMD.",
        "이미지에는 confluent-kafka와 psycopg2-binary, 컨슈머와 컨슈머가 쓰는 파일, USER, CMD가 필요합니다.",
    ):
        for wanted in ("confluent-kafka", "psycopg2-binary", "\nUSER ", "\nCMD "):
            assert wanted in dockerfile
        assert (
            not_copied(dockerfile, "messages.py", "database.py", "consumer.py", "tables.sql") == []
        )


def test_each_client_is_told_an_address_that_it_can_reach(services):
    with hint(
        "kafka must advertise 127.0.0.1:9092 to this machine and kafka:19092 to the containers; the consumer waits until both servers are healthy.",
        "kafka는 이 컴퓨터에는 127.0.0.1:9092를, 컨테이너에는 kafka:19092를 알려야 합니다. 컨슈머는 두 서버가 정상일 때까지 기다립니다.",
    ):
        told = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert sorted(told.split(",")) == ["HOST://127.0.0.1:9092", "NETWORK://kafka:19092"]
        variables = services["consumer"]["environment"]
        assert variables["KAFKA_BOOTSTRAP_SERVERS"] == "kafka:19092"
        assert re.search(r"@postgres(:5432)?/", variables["DATABASE_URL"])
        waits = services["consumer"]["depends_on"]
        assert {waits[name]["condition"] for name in ("kafka", "postgres")} == {"service_healthy"}


def test_the_connectors_say_what_they_read_and_where_a_row_is_placed(work: Path):
    source, sink = (
        json.loads((work / name).read_text("utf-8")) for name in ("source.json", "sink.json")
    )
    with hint(
        "source.json must read iris_data by the growing id; sink.json must write under pk.mode kafka, and send what it cannot read to connect-dead.",
        "source.json은 늘어나는 id로 iris_data를 읽어야 하고, sink.json은 pk.mode kafka로 저장하며 읽을 수 없는 것은 connect-dead로 보내야 합니다.",
    ):
        assert (source["mode"], source["incrementing.column.name"]) == ("incrementing", "id")
        assert source["topic.prefix"] + source["table.whitelist"] == sink["topics"]
        assert (sink["insert.mode"], sink["pk.mode"]) == ("upsert", "kafka")
        assert sink["pk.fields"] == "topic,partition,offset"
        assert sink["errors.tolerance"] == "all"
        assert sink["errors.deadletterqueue.topic.name"] == "connect-dead"


def test_the_kedro_node_reads_a_file_of_messages(learner, typed, work: Path):
    with hint(
        "read_messages() must give the rows with their `offset`, and dead letters as `offset`, `value` (the first characters) and `reason`; the catalog keeps both as CSV.",
        "read_messages()는 `offset`이 붙은 행과, `offset`, `value`(처음 몇 글자), `reason` 열의 데드 레터를 내놓아야 합니다. 카탈로그는 둘 다 CSV로 저장합니다.",
    ):
        text = f"{BARE.decode()}\nno JSON at all\n{BARE.decode()}"
        rows, dead = learner.kedro_messages.read_messages(text, 7)
        assert rows["offset"].tolist() == [0, 2]
        assert rows["petal_width"].tolist() == [0.2, 0.2]
        assert dead[["offset", "value"]].to_numpy().tolist() == [[1, "no JSON"]]
        typed("kedro_messages.py")
        assert len((work / "rows.csv").read_text("utf-8").splitlines()) == 3
        assert "sepal_length" in (work / "dead_letters.csv").read_text("utf-8")
