"""Runs the application under uvicorn, in one process or several."""

import logging.config
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.serving.keys import Access
from mlops_for_mle.serving.logs import log_configuration
from mlops_for_mle.serving.settings import ServingSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# Longer than a load balancer keeps idle connections, so that it is never the server who ends one.
_KEEP_ALIVE_SECONDS = 75
# How long a worker may be silent; uvicorn's 5 would end one that imports on a busy machine.
_START_SECONDS = 15
# The exit status of a worker, by uvicorn.
_CANNOT_START = 3
# Where prometheus_client looks for the folder that all workers share.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# Where that lies: on a full disk, as the spool's may be, a process that counts would be killed.
MEMORY = Path("/dev/shm")  # noqa: S108  (what is made there is this server's alone)
if not os.access(MEMORY, os.W_OK):
    MEMORY = Path(tempfile.gettempdir())

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Serve until told to stop; gives the exit status: 1, it cannot serve; 2, wrong settings."""
    # onnxruntime would otherwise report its use to others.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        settings = ServingSettings(_cli_parse_args=arguments)
        logging.config.dictConfig(log_configuration(settings.log_level))
        # Says before all else what is wrong with the keys and the spool.
        Access(settings)
        settings.spool.mkdir(parents=True, exist_ok=True)
        listening = _bind(settings.host, settings.port)
    except (UserError, ValidationError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201  (the answer to a person's mistake)
        return 2 if isinstance(error, ConfigurationError | ValidationError) else 1
    return _serve(settings, listening)


def _serve(settings: ServingSettings, listening: socket.socket) -> int:
    """Answer requests until SIGTERM or SIGINT, and finish those that are being answered."""
    host, port = listening.getsockname()[:2]
    url_host = f"[{host}]" if ":" in host else host
    logger.info("Listening on http://%s:%d (Ctrl+C stops)", url_host, port)
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        partial(_create_worker, settings),
        factory=True,
        workers=settings.workers,
        log_level=settings.log_level,
        log_config=log_configuration(settings.log_level),
        access_log=False,
        server_header=False,
        # The rest of the time is for writing out the prediction log, see Services.stop.
        timeout_graceful_shutdown=settings.shutdown_seconds / 2,  # type: ignore[arg-type]
        http="mlops_for_mle.serving.fast:ServingProtocol",
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_worker_healthcheck=_START_SECONDS,
    )
    if settings.workers == 1:
        server = uvicorn.Server(config)
        server.run(sockets=[listening])
        return 0 if server.started else 1
    prefix = f"mlops-metrics-{host}-{port}-"
    for stale in MEMORY.glob(f"{prefix}*"):
        # Left by a server that was killed with all its workers.
        shutil.rmtree(stale, ignore_errors=True)
    supervisor = Multiprocess(config, sockets=[listening])
    # A worker that is killed may still write there.
    folders = tempfile.TemporaryDirectory(None, prefix, MEMORY, ignore_cleanup_errors=True)
    with folders as folder:
        os.environ[METRICS_FOLDER] = folder
        supervisor.run()
    return int(any(worker.process.exitcode == _CANNOT_START for worker in supervisor.processes))


def _create_worker(settings: ServingSettings) -> "ASGIApp":
    """Make the application of one process."""
    from mlops_for_mle.serving.app import create_app
    from mlops_for_mle.serving.fast import allow_many_connections
    from mlops_for_mle.serving.services import Services

    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        threading.Thread(target=_exit_with, args=(supervisor,), daemon=True).start()
    allow_many_connections()
    return create_app(Services(settings))


def _bind(host: str, port: int) -> socket.socket:
    """Take the address; from here on clients wait for the first answer, and are not refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(
            f"Cannot listen on {host} port {port}: {error.strerror}. "
            "Choose another with --host and --port, or MLOPS_HOST and MLOPS_PORT."
        ) from None
    listening.set_inheritable(True)
    return listening


def _exit_with(supervisor: Any) -> None:
    """End this process when the one that started it is gone, however that ended."""
    supervisor.join()
    shutil.rmtree(os.environ[METRICS_FOLDER], ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
