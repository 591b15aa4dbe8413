"""``python -m mlops_for_mle.serving``: the prediction API."""

import os
import signal
import sys
from collections.abc import Sequence

OPTIONS = ("host", "port", "workers", "model", "release_store", "cache", "log_level")


def main(arguments: Sequence[str] | None = None) -> int:
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
    import argparse
    import logging.config

    from mlops_for_mle.errors import ConfigurationError, UserError
    from mlops_for_mle.serving.logs import log_configuration
    from mlops_for_mle.serving.server import run_server
    from mlops_for_mle.serving.settings import PREFIX, ServingSettings

    parser = argparse.ArgumentParser(
        prog="python -m mlops_for_mle.serving",
        description="Answer predictions by the release that was deployed last.",
        epilog="Every setting is also a variable; options come before variables.",
    )
    for name in OPTIONS:
        description = ServingSettings.model_fields[name].description
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.upper(),
            help=f"{description} [{PREFIX}{name.upper()}]",
        )
    try:
        settings = ServingSettings.load(vars(parser.parse_args(arguments)))
        logging.config.dictConfig(log_configuration(settings.log_level, settings.log_format))
        run_server(settings)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201  (the answer to a person's mistake)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
