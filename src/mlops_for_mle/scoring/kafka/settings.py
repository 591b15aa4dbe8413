"""Where the brokers are and how they are reached: environment variables ``KAFKA_…``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_for_mle.configuration import explain_errors
from mlops_for_mle.errors import ConfigurationError

PREFIX = "KAFKA_"

SecurityProtocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
OffsetReset = Literal["earliest", "latest"]

# What Kafka allows in the names of topics.
_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


class KafkaSettings(BaseSettings):
    """What a person may set; every field is the variable ``KAFKA_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    bootstrap_servers: str = Field(
        default="",
        validate_default=True,
        description="Brokers to ask first, with commas between them, such as localhost:9092.",
    )
    group_id: str = Field(
        default="",
        max_length=249,
        description="The consumer group, whose members share the topic's partitions. Default: the "
        "contract's name with -scoring.",
    )
    dead_letter_topic: str | None = Field(
        default=None,
        pattern=_TOPIC,
        description="Where bad messages go. Default: the topic's name with .dead-letter.",
    )
    auto_offset_reset: OffsetReset = Field(
        default="earliest",
        description="Where a group begins that has committed nothing yet: earliest or latest.",
    )
    session_timeout_seconds: float = Field(
        default=45.0,
        ge=1,
        le=1800,
        description="After how many seconds without a sign of life the partitions of a member go "
        "to the others. Brokers allow 6 to 1800 unless told otherwise.",
    )
    delivery_timeout_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        description="How long the brokers may take for a dead letter before it is sent anew.",
    )
    security_protocol: SecurityProtocol = Field(
        default="plaintext",
        description="How brokers are spoken to: plaintext, ssl, sasl_plaintext or sasl_ssl.",
    )
    sasl_mechanism: SaslMechanism | None = Field(
        default=None,
        description="How this client logs in: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
    )
    sasl_username: str | None = Field(default=None, description="The name to log in with.")
    sasl_password: SecretStr | None = Field(default=None, description="The password for it.")
    ssl_ca_location: Path | None = Field(
        default=None,
        description="The certificates that are trusted. Unset: those of the operating system.",
    )
    ssl_certificate_location: Path | None = Field(
        default=None, description="The certificate that this client shows."
    )
    ssl_key_location: Path | None = Field(default=None, description="The key of that certificate.")
    ssl_key_password: SecretStr | None = Field(default=None, description="The key's password.")

    @field_validator("bootstrap_servers")
    @classmethod
    def _servers_have_ports(cls, given: str) -> str:
        if not given:
            raise ValueError("name the brokers, such as localhost:9092")
        for server in given.split(","):
            found = _BROKER.fullmatch(server.strip())
            if found is None or not 0 < int(found[2]) < 65536:
                raise ValueError("expected host:port, with commas between several")
        return given

    @field_validator("security_protocol", mode="before")
    @classmethod
    def _protocols_are_lower_case(cls, given: Any) -> Any:
        return given.lower() if isinstance(given, str) else given

    @field_validator("sasl_mechanism", mode="before")
    @classmethod
    def _mechanisms_are_upper_case(cls, given: Any) -> Any:
        return given.upper() if isinstance(given, str) else given

    @field_validator("ssl_ca_location", "ssl_certificate_location", "ssl_key_location")
    @classmethod
    def _files_are_there(cls, given: Path | None) -> Path | None:
        if given is not None and not given.exists():
            raise ValueError("there is no such file")
        return given

    @classmethod
    def load(cls, options: Mapping[str, Any] | None = None) -> Self:
        """Read the settings: options first, then the environment, then the defaults.

        Raises:
            ConfigurationError: One line a wrong value: its name, what was found, what is allowed.
        """
        given = {name: value for name, value in (options or {}).items() if value is not None}
        try:
            settings = cls(**given)
        except ValidationError as error:
            lines = [_as_written(line, given) for line in explain_errors(error, "", cls)]
            raise ConfigurationError("\n".join(lines)) from None
        settings._check_login()
        return settings

    def client_properties(self) -> dict[str, Any]:
        """The properties of librdkafka that every client needs to reach the brokers."""
        properties = {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": "mlops-for-mle",
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": _revealed(self.sasl_password),
            "ssl.ca.location": _text(self.ssl_ca_location),
            "ssl.certificate.location": _text(self.ssl_certificate_location),
            "ssl.key.location": _text(self.ssl_key_location),
            "ssl.key.password": _revealed(self.ssl_key_password),
        }
        return {name: value for name, value in properties.items() if value is not None}

    # No validator of Pydantic, whose errors would show the whole input, passwords included.
    def _check_login(self) -> None:
        login = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        needs_login = self.security_protocol.startswith("sasl_")
        if needs_login and None in login:
            raise ConfigurationError(
                f"{PREFIX}SECURITY_PROTOCOL is {self.security_protocol}, which needs "
                f"{PREFIX}SASL_MECHANISM, {PREFIX}SASL_USERNAME and {PREFIX}SASL_PASSWORD."
            )
        # Otherwise a forgotten protocol would look like a broker that hangs up.
        if not needs_login and any(one is not None for one in login):
            raise ConfigurationError(
                f"{PREFIX}SASL_… is set, so {PREFIX}SECURITY_PROTOCOL must be sasl_ssl or "
                f"sasl_plaintext (found {self.security_protocol})."
            )


def _as_written(line: str, options: Mapping[str, Any]) -> str:
    """Name the setting as the person wrote it: as an option or as a variable."""
    name, _, rest = line.partition(":")
    shown = f"--{name.replace('_', '-')}" if name in options else PREFIX + name.upper()
    return f"{shown}:{rest}"


def _revealed(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
