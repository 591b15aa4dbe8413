"""The orderly end of the server: under load, with idle connections, with a stuck client."""

import socket
import threading
import time
from collections import Counter

import pytest

from tests.serving.conftest import ServerProcess
from tests.serving.raw import request

REQUEST = b"".join(request())


@pytest.fixture
def server(start_serving, iris) -> ServerProcess:
    return start_serving(iris, MLOPS_SHUTDOWN_SECONDS="6")


def test_a_client_that_never_finishes_does_not_hold_up_the_end(server: ServerProcess):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as stuck:
        stuck.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        time.sleep(0.3)
        started = time.monotonic()

        assert server.stop() == 0

    assert 2 < time.monotonic() - started < 8


def test_clients_that_connect_anew_for_each_request_are_answered_or_refused(server: ServerProcess):
    host, port = server.url.removeprefix("http://").split(":")
    statuses: Counter[str] = Counter()

    def ask() -> None:
        while True:
            try:
                channel = socket.create_connection((host, int(port)), timeout=10)
            except ConnectionRefusedError:
                return
            with channel:
                try:
                    channel.sendall(REQUEST)
                    statuses[channel.recv(65536)[9:12].decode()] += 1
                except ConnectionError as error:
                    statuses[type(error).__name__] += 1

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    time.sleep(1)

    assert server.stop() == 0

    for thread in threads:
        thread.join(15)
    answered = statuses.pop("200")
    assert answered > 100
    # Who was not taken yet is refused, and may ask again; nobody gets half of an answer.
    assert set(statuses) <= {"ConnectionResetError", "BrokenPipeError"}, statuses
    assert sum(statuses.values()) <= len(threads)
