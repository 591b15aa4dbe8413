from tests.course.suite import Change, PartSuite


class TestPart8(PartSuite):
    number = 8
    mistakes = (
        Change(
            "worker.py",
            "    with connection, connection.cursor(",
            "    connection.autocommit = True\n    with connection.cursor(",
            "a_worker_killed_while_it_writes_doubles_no_row",
        ),
        Change(
            "answers.py",
            "response.status_code == 422",
            "400 <= response.status_code < 500",
            "what_is_no_answer_blames_no_row",
        ),
        Change(
            "dashboard.json",
            "UNION ALL",
            "UNION ALL SELECT now(), 'waiting', count(*) FROM waiting UNION ALL",
            "the_panel_counts_answers_by_minute_and_class",
        ),
    )
