"""Who can reach the server: this machine alone, or others."""

import ipaddress
import socket

from mlops_for_mle.errors import ConfigurationError
from mlops_for_mle.serving.keys import KeyFile
from mlops_for_mle.serving.settings import ServingSettings


def require_keys_for(settings: ServingSettings) -> None:
    """Refuse an address that others can reach as long as there is no key.

    Raises:
        ConfigurationError: There is none, or the file of keys is not valid.
    """
    keys = KeyFile(settings.api_keys_file).read()
    if keys or settings.keyless_names or is_loopback(settings.host):
        return
    raise ConfigurationError(
        f"MLOPS_HOST: {settings.host} can be reached by others, and there is no API key in "
        f"{settings.api_keys_file}. Create one with `python -m mlops_for_mle.serving.keys create "
        "NAME --scope predict`, or listen on 127.0.0.1."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address, however it is written."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return all(ipaddress.ip_address(one[4][0]).is_loopback for one in found)


def is_loopback_name(name: str) -> bool:
    """Whether a name or an address in a URL always means this machine; asks no name server."""
    lowered = name.lower().rstrip(".")
    if lowered == "localhost" or lowered.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(lowered.strip("[]")).is_loopback
    except ValueError:
        return False
