"""What one serving process runs."""

import multiprocessing
import os
import signal
import threading
from typing import TYPE_CHECKING

from mlops_for_mle.serving.metrics.folder import metrics_folder
from mlops_for_mle.serving.metrics.prometheus import PrometheusMetrics
from mlops_for_mle.serving.prediction_log.recorder import SpoolingRecorder
from mlops_for_mle.serving.services import build_services
from mlops_for_mle.serving.settings import ServingSettings

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def create_worker() -> "ASGIApp":
    """Make the application of one process from the environment.

    The services start before the web framework is imported, so that an embedded database comes up
    in the meantime.
    """
    settings = ServingSettings.load()
    services = build_services(
        settings,
        recorder=SpoolingRecorder(settings),
        metrics=PrometheusMetrics(metrics_folder()),
    )
    services.start()
    _stop_with_the_supervisor()
    from mlops_for_mle.serving.app import create_app
    from mlops_for_mle.serving.guards.protection import Protection

    return create_app(settings, services, Protection(settings, services.metrics))


def _stop_with_the_supervisor() -> None:
    """End this process when the one that started it is gone, however that ended."""
    supervisor = multiprocessing.parent_process()
    if supervisor is None:
        return

    def wait() -> None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor-watch", daemon=True).start()
