"""The parts of one serving process, made once and handed to whoever needs them."""

import time
from dataclasses import dataclass

from mlops_for_mle.serving.data_plane import DataPlane
from mlops_for_mle.serving.http.request_gate import RequestGate
from mlops_for_mle.serving.recording import (
    NoMetrics,
    NoRecorder,
    PredictionRecorder,
    ServingMetrics,
)
from mlops_for_mle.serving.releases.deployment_log import DeploymentLog
from mlops_for_mle.serving.releases.follower import DeploymentFollower
from mlops_for_mle.serving.releases.served_release import ReleaseSlot
from mlops_for_mle.serving.settings import ServingSettings


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes share; none of it is global.

    Attributes:
        settings: What the person has set.
        slot: The release in service and what the follower last saw.
        follower: Replaces the release when another is deployed.
        data_plane: Answers rows.
        gate: Bounds how many requests are answered at once, and how long.
        recorder: Keeps answered predictions.
        metrics: Counts what happens.
        deployment_log: The audit trail in the database.
    """

    settings: ServingSettings
    slot: ReleaseSlot
    follower: DeploymentFollower
    data_plane: DataPlane
    gate: RequestGate
    recorder: PredictionRecorder
    metrics: ServingMetrics
    deployment_log: DeploymentLog

    def start(self) -> None:
        """Serve the cached release, if any, and follow the deployments; doing it twice is fine."""
        self.recorder.start()
        self.follower.start()

    def stop(self) -> None:
        """Stop following and write out what the recorder keeps.

        Takes at most half of the configured time; requests had the other half.
        """
        seconds = self.settings.shutdown_seconds / 2
        deadline = time.monotonic() + seconds
        self.gate.stop()
        self.follower.stop(timeout_seconds=min(1.0, seconds))
        self.recorder.stop(timeout_seconds=max(0.0, deadline - time.monotonic()))


def build_services(
    settings: ServingSettings,
    recorder: PredictionRecorder | None = None,
    metrics: ServingMetrics | None = None,
) -> Services:
    """Make the parts of a serving process; nothing runs before ``Services.start``."""
    slot = ReleaseSlot()
    log = DeploymentLog()
    recorder = recorder or NoRecorder()
    metrics = metrics or NoMetrics()
    return Services(
        settings=settings,
        slot=slot,
        follower=DeploymentFollower(settings, slot, log, metrics),
        data_plane=DataPlane(slot, recorder, metrics, settings.request_timeout_seconds),
        gate=RequestGate(settings.max_concurrency, settings.request_timeout_seconds),
        recorder=recorder,
        metrics=metrics,
        deployment_log=log,
    )
