"""Writes the rows of a topic into PostgreSQL: ``python consumer.py``; Ctrl-C or SIGTERM ends it."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import psycopg2
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from psycopg2.extensions import connection as Connection

from database import connect, database_url
from messages import read_row

INSERT_ROW = """
INSERT INTO iris_sink VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
INSERT_DEAD = "INSERT INTO dead_letters VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
SETTINGS: dict[str, str | int | bool] = {
    # Where a group begins that has committed nothing yet; else it would miss what was sent before.
    "auto.offset.reset": "earliest",
    # Otherwise offsets are committed every five seconds, whatever has become of the messages.
    "enable.auto.commit": False,
    # Who is silent for so long has died; the others are given its partitions.
    "session.timeout.ms": 6_000,
    "heartbeat.interval.ms": 1_000,
    # So soon is a topic found that is made later.
    "topic.metadata.refresh.interval.ms": 2_000,
}


def create_tables(connection: Connection) -> None:
    """Make the tables unless they are there."""
    with connection, connection.cursor() as cursor:
        cursor.execute(Path(__file__).with_name("tables.sql").read_text("utf-8"))


def write(connection: Connection, messages: Sequence[Message]) -> tuple[int, int]:
    """Write, in one transaction and once each, rows and dead letters; gives how many of both."""
    rows, dead = [], []
    for message in messages:
        place = (message.topic(), message.partition(), message.offset())
        try:
            rows.append((*place, *read_row(message.value()).values()))
        except ValueError as error:
            dead.append((*place, message.value(), str(error)))
    with connection, connection.cursor() as cursor:
        cursor.executemany(INSERT_ROW, rows)
        cursor.executemany(INSERT_DEAD, dead)
    return len(rows), len(dead)


def read(consumer: Consumer, most: int) -> list[Message]:
    """Some messages, or none after half a second; what the client complains of is printed."""
    found = consumer.consume(most, timeout=0.5)
    for error in filter(None, (one.error() for one in found)):
        print(f"Waiting: {error.str()}")
    return [one for one in found if one.error() is None]


def run(url: str, consumer: Consumer, stopping: Event, wanted: int | None = None) -> None:
    """Write batch after batch, and commit the offsets of each once it is written."""
    connection = connect(url)
    create_tables(connection)
    taken = 0
    batch: list[Message] = []
    while not stopping.is_set() and taken != wanted:
        batch = batch or read(consumer, 100 if wanted is None else min(100, wanted - taken))
        if not batch:
            continue
        try:
            rows, dead = write(connection, batch)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            print(f"Trying again: {str(error).strip()}")
            connection = connect(url)
            continue
        print(f"{rows} row(s) and {dead} dead letter(s) are written.")
        try:
            consumer.commit(asynchronous=False)
        except KafkaException as error:
            # Whoever has the partitions now reads these again.
            print(f"Not committed: {error.args[0].str()}")
        taken += len(batch)
        batch = []


def show(_: Consumer, partitions: list[TopicPartition]) -> None:
    print("Partitions:", ", ".join(sorted(str(one.partition) for one in partitions)) or "none")


def main() -> None:
    stopping = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    group = os.environ.get("GROUP_ID", "iris-sink")
    wanted = os.environ.get("MESSAGES")
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, **SETTINGS})
    consumer.subscribe([os.environ.get("TOPIC", "iris")], on_assign=show)
    try:
        run(database_url(), consumer, stopping, int(wanted) if wanted else None)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
