"""Runs the application under uvicorn, in one process or several."""

import logging
import signal
import socket
import sys
from types import FrameType
from typing import Any

from mlops_for_mle.errors import UserError
from mlops_for_mle.serving.guards.exposure import require_keys_for
from mlops_for_mle.serving.logs import log_configuration
from mlops_for_mle.serving.metrics.folder import shared_metrics_folder
from mlops_for_mle.serving.settings import ServingSettings

APPLICATION = "mlops_for_mle.serving.worker:create_worker"

# Longer than a load balancer keeps idle connections, so that it is never the server who ends one.
_KEEP_ALIVE_SECONDS = 75
# What uvicorn itself would take.
_BACKLOG = 2048

logger = logging.getLogger(__name__)


def run_server(settings: ServingSettings) -> None:
    """Answer requests until SIGTERM or SIGINT, finish those that are being answered, return.

    Raises:
        ConfigurationError: Others can reach the address and there is no API key.
        UserError: The address is taken or not ours.
    """
    require_keys_for(settings)
    listening = bind(settings.host, settings.port)
    settings.export()
    options: dict[str, Any] = {
        "app": APPLICATION,
        "factory": True,
        "log_level": settings.log_level,
        "log_config": log_configuration(settings.log_level, settings.log_format),
        "access_log": False,
        "server_header": False,
        # The rest of the time is for writing out the prediction log, see Services.stop.
        "timeout_graceful_shutdown": settings.shutdown_seconds / 2,
        "http": "mlops_for_mle.serving.http.protocol:ServingProtocol",
        "ws": "none",
        "timeout_keep_alive": _KEEP_ALIVE_SECONDS,
    }
    if settings.workers == 1:
        # After an orderly end uvicorn raises the signal again, which would be the exit status.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stay_orderly)
        # Loading the model and asking the database start before uvicorn is imported.
        from mlops_for_mle.serving.worker import create_worker

        application = create_worker()
        import uvicorn

        from mlops_for_mle.serving.http.patient_server import PatientServer

        options |= {"app": application, "factory": False}
        config = uvicorn.Config(**options)
        _announce(listening)
        server = PatientServer(config)
        server.run(sockets=[listening])
        if not server.started:
            sys.exit(1)
        return
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(**options, workers=settings.workers)
    _announce(listening)
    with shared_metrics_folder():
        Multiprocess(config, sockets=[listening]).run()


def bind(host: str, port: int) -> socket.socket:
    """Take the address.

    Raises:
        UserError: It is taken or not ours; the message names the settings.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UserError(f"MLOPS_HOST: {host!r} is no address ({error})") from None
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        # From here on clients wait for the first answer instead of being refused, and a second
        # server is told that the address is taken.
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise UserError(
            f"Cannot listen on {host} port {port}: {error.strerror}. "
            "Choose another with --port or MLOPS_PORT."
        ) from None
    listening.set_inheritable(True)
    return listening


def _announce(listening: socket.socket) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info("Listening on http://%s:%d (Ctrl+C stops)", shown, port)


def _stay_orderly(_: int, __: FrameType | None) -> None:
    """Let the orderly end be the end."""
