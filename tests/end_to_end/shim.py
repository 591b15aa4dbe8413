"""Programs that start fast, `python-here` among them: each call is a fork of a process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Listener
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from tests.end_to_end.commands import fork

PROGRAM = """#!{python} -I
import os, sys
from multiprocessing.connection import Client
# Before it connects: what it waits for may come from another of these, and one is served at a time.
given = sys.stdin.read()
with Client({address!r}) as test:
    test.send((os.getcwd(), dict(os.environ), {first} + sys.argv[1:], given))
    code, output, errors = test.recv()
sys.stdout.write(output)
sys.stderr.write(errors)
sys.exit(code)
"""


@contextmanager
def shim() -> Iterator[Path]:
    """A folder for the beginning of PATH; `python-here` takes what `python` does but options."""

    def answer() -> None:
        while True:
            with listener.accept() as client:
                folder, environment, arguments, given = client.recv()
                if folder is None:
                    return
                finished = fork(folder, environment, *arguments, given=given)
                client.send((finished.code, finished.output, finished.errors))

    with TemporaryDirectory() as folder, Listener(f"{folder}/socket") as listener:
        for name in ("kedro", "mlflow", "pytest", "python-here"):
            program, place = Path(folder, name), listener.address
            first = [] if name == "python-here" else [name]
            program.write_text(PROGRAM.format(python=sys.executable, address=place, first=first))
            program.chmod(0o755)
        answering = Thread(target=answer)
        answering.start()
        try:
            yield Path(folder)
        finally:
            with Client(listener.address) as client:
                client.send([None] * 4)
            answering.join()
