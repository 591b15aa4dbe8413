"""`python -m mlops_for_mle.scoring NUMBER`: one worker process of several.

Reads its plan, one line of JSON, from standard input and stops when that input ends, so that it
never outlives the process that started it. At its end it prints its totals as JSON.
"""

import dataclasses
import json
import logging
import os
import sys
import threading

from mlops_for_mle.errors import UserError
from mlops_for_mle.stop_signal import StopSignal


def main() -> int:
    """Work until done or told to stop; gives the exit code."""
    stopping = StopSignal()
    stopping.catch_signals()
    raw = sys.stdin.buffer.readline()
    if not raw:
        return 0
    threading.Thread(target=_stop_at_end_of_input, args=(stopping,), daemon=True).start()
    logging.basicConfig(
        format=f"%(asctime)s %(levelname)-7s worker={sys.argv[1]} %(message)s",
        datefmt="%H:%M:%S",
    )
    logging.getLogger("mlops_for_mle").setLevel(logging.INFO)

    from mlops_for_mle.database import database_url
    from mlops_for_mle.scoring.plan import ScoringPlan
    from mlops_for_mle.scoring.worker import ScoringWorker

    worker = ScoringWorker(ScoringPlan.model_validate_json(raw), database_url, stopping)
    try:
        worker.run()
    except UserError as error:
        sys.stderr.write(f"Error: worker {sys.argv[1]}: {error}\n")
        return 1
    finally:
        _tell(json.dumps(dataclasses.asdict(worker.totals)))
    return 0


def _tell(totals: str) -> None:
    """Tell the process that started this one, unless it is gone."""
    try:
        sys.stdout.write(totals)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter tries once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop_at_end_of_input(stopping: StopSignal) -> None:
    # Not by sys.stdin: the interpreter cannot end while a thread waits in there.
    while os.read(sys.stdin.fileno(), 1):
        pass
    stopping.set()


if __name__ == "__main__":
    sys.exit(main())
