"""The clients that are made of what a person may say about the brokers; none is connected."""

from pathlib import Path

import pytest

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.scoring.kafka.brokers import Brokers
from mlops_for_mle.scoring.kafka.settings import KafkaSettings


def brokers(**options: object) -> Brokers:
    return Brokers(KafkaSettings.load({"bootstrap_servers": "127.0.0.1:1", **options}))


@pytest.mark.parametrize("seconds", [1, 45, 300, 301, 1800])
def test_a_member_is_made_for_every_session_that_brokers_allow(seconds: float) -> None:
    brokers(session_timeout_seconds=seconds).consumer("those").close()


@pytest.mark.parametrize("option", ["ssl_ca_location", "ssl_certificate_location"])
def test_a_file_that_is_no_certificate_is_told_in_one_sentence(tmp_path: Path, option: str) -> None:
    path = tmp_path / "some.pem"
    path.write_text("no certificate")

    with pytest.raises(ConfigurationError) as raised:
        brokers(security_protocol="ssl", **{option: path})

    said = str(raised.value)
    assert said.startswith(f"KAFKA_{option.upper()}: Kafka's client cannot use the file: ")
    assert said.endswith(f"(found '{path}')")
    assert "\n" not in said
