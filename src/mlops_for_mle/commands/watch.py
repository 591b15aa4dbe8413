"""`kedro watch`: monitors the deployed release and retrains it when that is called for."""

import json
import logging
import signal
import time
from datetime import timedelta
from http.client import HTTPException
from itertools import count
from typing import Any
from urllib.request import Request, urlopen

import click
from kedro.framework.session import KedroSession

from mlops_for_mle.commands.project import Project, duration, with_project
from mlops_for_mle.errors import explain, is_not_called_for
from mlops_for_mle.pipelines.monitoring.retraining import RetrainingDecision

_PAUSE = duration(timedelta(seconds=1))
_WEBHOOK, _WEBHOOK_SECONDS = "MLOPS_ALERT_WEBHOOK", 5

_LOGGER = logging.getLogger(__name__)


@click.command()
@with_project
@click.option("--every", default="10m", show_default=True, type=_PAUSE, help="At least 1s.")
@click.option("--rounds", type=click.IntRange(1), help="Stop after so many; without, go on.")
@click.option("--webhook", envvar=_WEBHOOK, show_envvar=True, help="A URL to tell decisions.")
def watch(project: Project, every: timedelta, rounds: int | None, webhook: str | None) -> None:
    """Monitor the deployed release, decide, and retrain when that is called for.

    Each round runs the pipeline monitoring and, if its decision says so, the pipeline retrain.
    What fails is tried again in the next round. Ctrl-C or SIGTERM ends it at once.
    """
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)
    for which in (signal.SIGINT, signal.SIGTERM):
        signal.signal(which, signal.default_int_handler)
    click.echo(f"Watching {project.contract.name} every {every.total_seconds():g} s.")
    last_sent = "none"
    try:
        for number in count(1):
            try:
                decision = run_pipeline(project, "monitoring")["retraining_decision"].load()
                if webhook and decision.decision != last_sent and tell(webhook, decision):
                    last_sent = decision.decision
                if decision.decision == "retrain":
                    run_pipeline(project, "retrain")
            except Exception as error:
                if is_not_called_for(error):
                    # Somebody else has done it, or what it was called for has passed.
                    _LOGGER.info("%s", explain(error))
                elif number == rounds:
                    raise
                else:
                    _LOGGER.warning("%s; will be tried again", " ".join(explain(error).split()))
            if number == rounds:
                return
            time.sleep(every.total_seconds())
    except KeyboardInterrupt:
        click.echo("Stopped.")


def tell(webhook: str, decision: RetrainingDecision) -> bool:
    """Send a decision as JSON, with a ``text`` that chats show; whether that has succeeded."""
    text = f"{decision.contract}: {decision.decision}. {' '.join(decision.reasons)}"
    body = json.dumps({"text": text, **vars(decision)}, default=str).encode()
    try:
        request = Request(webhook, body, {"Content-Type": "application/json"})  # noqa: S310
        with urlopen(request, timeout=_WEBHOOK_SECONDS):  # noqa: S310
            return True
    except (OSError, ValueError, HTTPException) as error:
        # The address, which may be a secret, is named by some messages in full.
        reason = getattr(error, "reason", type(error).__name__)
        _LOGGER.warning("decision=%s was not told to the webhook: %s", decision.id, reason)
        return False


def run_pipeline(project: Project, pipeline: str) -> dict[str, Any]:
    """Run a pipeline in a session of its own; gives the entries that it has written last."""
    session: Any
    with KedroSession.create(project_path=project.folder, env=project.env) as session:
        return dict(session.run(pipeline_names=[pipeline]))
