"""``python -m mlops_for_mle.serving``: the prediction API."""

import os
import signal
import sys

if __name__ == "__main__":
    # While it starts, and when uvicorn raises the signal again after an orderly end. An exception
    # may be lost in what an import does, and the interpreter's own end may wait for a thread.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    from mlops_for_mle.serving.server import main

    sys.exit(main(sys.argv[1:]))
