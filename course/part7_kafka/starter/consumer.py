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

INSERT_ROW = "..."  # step 4
INSERT_DEAD = "..."  # step 4
SETTINGS: dict[str, str | int | bool] = {
    # Step 5: begin with the earliest message, and commit nothing by itself.
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
    raise NotImplementedError("step 4: rows and dead letters, each under its place")


def read(consumer: Consumer, most: int) -> list[Message]:
    """Some messages, or none after half a second; what the client complains of is printed."""
    raise NotImplementedError("step 5: consumer.consume, and message.error()")


def run(url: str, consumer: Consumer, stopping: Event, wanted: int | None = None) -> None:
    """Write batch after batch, and commit the offsets of each once it is written."""
    connection = connect(url)
    create_tables(connection)
    raise NotImplementedError("step 5: read, write, then commit")


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
