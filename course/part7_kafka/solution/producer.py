"""Sends the rows of ``iris.csv`` to a topic: ``python producer.py``.

With arguments it sends these as they are: ``python producer.py 'no JSON'``.
"""

import csv
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from messages import Row, wrap

# What a message is about, or nothing, and what it holds.
KeyAndValue = tuple[str | None, bytes]


def make_topic(servers: str, topic: str, partitions: int) -> None:
    """Make a topic unless it is there."""
    admin = AdminClient({"bootstrap.servers": servers})
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(timeout=30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def send(
    servers: str, topic: str, messages: Iterable[KeyAndValue], patience: float = 30.0
) -> list[tuple[int, int]]:
    """Send messages, and wait until the broker has confirmed each of them.

    Returns:
        Partition and offset of each message.

    Raises:
        KafkaException: One was not confirmed within ``patience`` seconds.
    """
    settings = {"acks": "all", "enable.idempotence": True}
    timeout = {"message.timeout.ms": int(patience * 1000)}
    producer = Producer({"bootstrap.servers": servers, **settings, **timeout})
    failures: list[KafkaError] = []
    places: list[tuple[int, int]] = []

    def confirmed(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(error)
        else:
            places.append((message.partition() or 0, message.offset() or 0))

    for key, value in messages:
        producer.produce(topic, value, key, on_delivery=confirmed)
        producer.poll(0)
    producer.flush()
    if failures:
        raise KafkaException(failures[0])
    return places


def read_rows(path: Path) -> list[Row]:
    """The rows of a CSV file with a header line, numbered from 1."""
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    measures = [{name: float(text) for name, text in line.items()} for line in lines]
    return [
        {"id": number, **measured, "target": int(measured["target"])}
        for number, measured in enumerate(measures, start=1)
    ]


def main() -> None:
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    topic = os.environ.get("TOPIC", "iris")
    messages: list[KeyAndValue] = [(None, text.encode()) for text in sys.argv[1:]]
    if not messages:
        rows = read_rows(Path(__file__).with_name("iris.csv"))
        messages = [(str(row["id"]), wrap(row)) for row in rows]
    try:
        make_topic(servers, topic, partitions=2)
        places = send(servers, topic, messages)
    except KafkaException as error:
        raise SystemExit(f"Not sent: {error.args[0].str()}") from None
    print(f"{len(places)} message(s) sent; the last one is {topic}/{places[-1][0]}/{places[-1][1]}")


if __name__ == "__main__":
    main()
