from tests.course.suite import Change, PartSuite


class TestPart7(PartSuite):
    number = 7
    ports = (9092,)
    mistakes = (
        Change(
            "messages.py",
            "except (ValueError, RecursionError)",
            "except ValueError",
            "what_is_no_row_is_refused_with_a_reason",
        ),
        Change(
            "consumer.py",
            "        try:\n            rows, dead = write(",
            "        consumer.commit(asynchronous=False)\n        try:\n"
            "            rows, dead = write(",
            "kill_9_before_the_rows_are_written_loses_none",
        ),
        Change(
            "consumer.py",
            "%s, %s) ON CONFLICT DO NOTHING",
            "%s, %s)",
            "a_message_that_comes_twice_is_written_once",
        ),
    )
