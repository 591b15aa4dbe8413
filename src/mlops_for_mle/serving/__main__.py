"""``python -m mlops_for_mle.serving``: the prediction API."""

import os
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Serve until told to stop.

    Returns:
        The exit status: 0 after an orderly end, 1 when it cannot serve, 2 for wrong settings.
    """
    # While it starts, and when uvicorn raises the signal again after an orderly end. An exception
    # may be lost in what an import does, and the interpreter's own end may wait for a thread.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    # onnxruntime would otherwise report its use to others.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import logging.config

    from mlops_for_mle.errors import ConfigurationError, UserError
    from mlops_for_mle.serving.logs import log_configuration
    from mlops_for_mle.serving.server import run_server
    from mlops_for_mle.serving.settings import ServingSettings

    try:
        settings = ServingSettings.load(arguments=arguments)
        logging.config.dictConfig(log_configuration(settings.log_level))
        run_server(settings)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201  (the answer to a person's mistake)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
