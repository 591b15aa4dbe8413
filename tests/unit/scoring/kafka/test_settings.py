"""What a person may say about the brokers."""

from pathlib import Path

import pytest

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.scoring.kafka.settings import KafkaSettings

LOGIN = {
    "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "scram-sha-512",
    "KAFKA_SASL_USERNAME": "scorer",
    "KAFKA_SASL_PASSWORD": "open sesame",
}


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in KafkaSettings.model_fields:
        monkeypatch.delenv(f"KAFKA_{field.upper()}", raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def complaint(**options: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        KafkaSettings.load(options)
    return str(caught.value)


def test_a_login_reaches_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, LOGIN)

    properties = KafkaSettings.load().client_properties()

    assert properties == {
        "bootstrap.servers": "broker:9092",
        "client.id": "mlops-for-mle",
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "scorer",
        "sasl.password": "open sesame",
    }


def test_an_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"KAFKA_BOOTSTRAP_SERVERS": "one:1", "KAFKA_GROUP_ID": "those"})

    settings = KafkaSettings.load({"bootstrap_servers": "two:2", "group_id": None})

    assert (settings.bootstrap_servers, settings.group_id) == ("two:2", "those")


@pytest.mark.parametrize("missing", ["MECHANISM", "USERNAME", "PASSWORD"])
def test_half_a_login_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    set_all(monkeypatch, LOGIN)
    monkeypatch.delenv(f"KAFKA_SASL_{missing}")

    said = complaint()

    assert "KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD" in said
    assert "sesame" not in said


def test_a_login_over_a_protocol_without_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, LOGIN)
    monkeypatch.delenv("KAFKA_SECURITY_PROTOCOL")

    said = complaint()

    assert "KAFKA_SECURITY_PROTOCOL must be sasl_ssl or sasl_plaintext" in said
    assert "sesame" not in said


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, LOGIN)

    assert "sesame" not in f"{KafkaSettings.load()!r} {KafkaSettings.load()}"


def test_brokers_must_be_named() -> None:
    assert complaint().startswith(
        "KAFKA_BOOTSTRAP_SERVERS: name the brokers, such as localhost:9092"
    )


@pytest.mark.parametrize("servers", ["localhost", "a:b", "a:0", "a:70000", "http://a:1", "a:1,"])
def test_brokers_have_a_host_and_a_port(servers: str) -> None:
    said = complaint(bootstrap_servers=servers)

    assert said.startswith("--bootstrap-servers: expected host:port")
    assert servers in said


@pytest.mark.parametrize("servers", ["localhost:9092", "a:1, b:2", "[::1]:9092", "10.0.0.1:9092"])
def test_brokers_may_be_named_in_every_usual_form(servers: str) -> None:
    assert KafkaSettings.load({"bootstrap_servers": servers}).bootstrap_servers == servers


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = complaint(bootstrap_servers="a:1", ssl_ca_location=tmp_path / "ca.pem")

    assert "--ssl-ca-location: there is no such file" in said


def test_every_setting_is_described() -> None:
    assert all(field.description for field in KafkaSettings.model_fields.values())
