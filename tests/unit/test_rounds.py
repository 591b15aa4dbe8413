import threading
from datetime import timedelta

from mlops_for_mle.errors import NotCalledForError, UserError
from mlops_for_mle.rounds import Patience, pause_after, repeat

AT_ONCE = timedelta(0)


def test_the_pause_doubles_with_every_failure_up_to_a_bound():
    minute = timedelta(minutes=1)

    assert pause_after(0, minute) == minute
    assert pause_after(3, minute) == timedelta(minutes=8)
    assert pause_after(1000, minute) == timedelta(hours=6)
    assert pause_after(1000, timedelta(days=1)) == timedelta(days=1)


def test_a_round_that_fails_does_not_end_the_loop(caplog):
    outcomes = [UserError("no server"), ValueError("a fault"), None]

    def work() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    assert repeat(work, AT_ONCE, threading.Event(), limit=3) == 2
    assert outcomes == []
    assert "no server" in caplog.text
    assert "ValueError: a fault" in caplog.text


def test_stopping_ends_the_loop_after_the_round_under_way():
    stopping, done = threading.Event(), []

    def work() -> None:
        stopping.set()
        done.append(1)

    assert repeat(work, timedelta(hours=1), stopping) == 0
    assert done == [1]


def test_what_fails_is_done_more_and_more_seldom_however_often_it_is_asked_for(caplog):
    now, done = [0.0], []

    def work() -> None:
        done.append(now[0])
        raise UserError("too few labels")

    patience = Patience("retraining", work, timedelta(seconds=10), clock=lambda: now[0])
    for second in range(0, 160, 10):
        # Rounds are not quite on time.
        now[0] = second + (1 if second % 20 else -1)
        patience.work()

    assert done == [-1, 19, 59, 139]
    assert patience.failures == 4
    assert "too few labels" in caplog.text
    assert "retraining: 4 failed in a row; it is tried again after 160 s" in caplog.text


def test_what_has_succeeded_or_is_another_work_is_done_at_once():
    outcomes = [UserError("no"), None, ValueError("a fault"), None, UserError("no"), None]
    now = [0.0]

    def work() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    patience = Patience("retraining", work, timedelta(seconds=10), clock=lambda: now[0])
    for second in (0, 20, 30, 50):
        now[0] = float(second)
        patience.work()
    assert (patience.failures, len(outcomes)) == (0, 2)

    patience.work()
    patience.forget()
    patience.work()
    assert (patience.failures, outcomes) == (0, [])


def test_what_somebody_else_has_done_meanwhile_is_no_failure():
    def work() -> None:
        raise NotCalledForError("acted on already")

    patience = Patience("retraining", work, timedelta(seconds=10))
    patience.work()

    assert patience.failures == 0
