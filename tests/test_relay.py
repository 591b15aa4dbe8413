"""The network of the tests, which must not outlive the test that has used it."""

import threading

from tests.relay import Relay
from tests.servers import eventually


def test_one_that_is_closed_leaves_no_thread_to_accept_what_others_are_sent():
    before = threading.active_count()
    Relay(target_port=1).close()
    assert eventually(lambda: threading.active_count() == before, seconds=5)
