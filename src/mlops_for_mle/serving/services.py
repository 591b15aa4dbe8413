"""The parts of one serving process, which routes share; none of it is global."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from mlops_for_mle.serving.database import Pool
from mlops_for_mle.serving.keys import Access
from mlops_for_mle.serving.metrics import Metrics
from mlops_for_mle.serving.prediction_log import PredictionLog
from mlops_for_mle.serving.releases import Releases
from mlops_for_mle.serving.settings import ServingSettings


class Services:
    """What answers requests.

    ``threads`` are for what would hold up the event loop, and for nothing else; ``database`` is for
    the project's own tables.
    """

    def __init__(self, settings: ServingSettings) -> None:
        """Make the parts; nothing runs before ``start``."""
        self.settings, self.access, self.metrics = settings, Access(settings), Metrics()
        self.releases = Releases(settings, self.metrics)
        self.log = PredictionLog(settings, self.metrics)
        self.database = Pool("own tables", settings.max_concurrency)
        self.threads = ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 1)), "large")

    def start(self) -> None:
        """Serve the cached release, if any, and follow the deployments."""
        self.log.start()
        self.releases.start()

    def stop(self) -> None:
        """End in half of the configured time; requests had the other half."""
        deadline = time.monotonic() + self.settings.shutdown_seconds / 2
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.releases.stop(0.5)
        self.log.stop(deadline - time.monotonic())
