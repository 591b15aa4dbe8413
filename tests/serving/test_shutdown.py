"""The orderly end of the server: under load, with idle connections, with a stuck client."""

import signal
import socket
import threading
from collections import Counter

import pytest

from tests.serving.conftest import Load, ServerProcess, wait_until
from tests.serving.raw import request

REQUEST = b"".join(request())


@pytest.fixture
def server(start_serving, iris) -> ServerProcess:
    return start_serving(iris, MLOPS_SHUTDOWN_SECONDS="60")


def test_under_load_every_request_that_was_taken_is_answered_and_kept(
    server: ServerProcess, database
):
    load = Load(server, clients=6)
    load.wait_for(20)
    load.is_ending = True

    server.process.send_signal(signal.SIGINT)

    assert server.process.wait(timeout=90) == 0
    answered = load.stop()
    assert database.rows("SELECT count(*) FROM predictions") == [(len(answered),)]


def test_a_client_that_never_finishes_does_not_hold_up_the_end(start_serving, iris):
    server = start_serving(iris, MLOPS_SHUTDOWN_SECONDS="1")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as stuck:
        stuck.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
        # Answered after the server has read what came before.
        assert server.get("/health/live")

        assert server.stop() == 0


def test_clients_that_connect_anew_for_each_request_are_answered_or_refused(server: ServerProcess):
    host, port = server.url.removeprefix("http://").split(":")
    statuses: Counter[str] = Counter()

    def ask() -> None:
        while True:
            try:
                channel = socket.create_connection((host, int(port)), timeout=60)
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
    wait_until(lambda: statuses["200"] > 100)

    assert server.stop() == 0

    for thread in threads:
        thread.join(90)
    del statuses["200"]
    # Who was not taken yet is refused, and may ask again; nobody gets half of an answer.
    assert set(statuses) <= {"ConnectionResetError", "BrokenPipeError"}, statuses
    assert sum(statuses.values()) <= len(threads)
