from tests.course.suite import Change, PartSuite


class TestPart4(PartSuite):
    number = 4
    mistakes = (
        Change(
            "releases.py",
            "            stack.pop()\n        elif",
            "            stack.append(entry['release'])\n        elif",
            "rolling_back_twice_goes_back_twice",
        ),
        Change(
            "releases.py",
            '"\\n" + json.dumps({"event": event, "release": name})',
            'json.dumps({"event": event, "release": name}) + "\\n"',
            "half_a_line_of_the_history_costs_nothing_else",
        ),
        Change(
            "router.py",
            "int.from_bytes(hashlib.sha256(customer.encode()).digest()[:8]) / 2**64",
            "hash(customer) % 1000 / 1000",
            "a_customer_is_always_answered_by_the_same_release",
        ),
    )
    variants = (
        Change(
            "releases.py",
            'f"Release {name} was changed after it was published"',
            '"changed"',
            "a_release_is_named_by_its_content_and_never_changes",
        ),
        Change(
            "router.py",
            "    requests = sorted(",
            "    outbox.mkdir(parents=True, exist_ok=True)\n    requests = sorted(",
            "an_event_is_not_lost_when_answering_fails",
        ),
        Change(
            "ci.yml",
            "run: pytest test_candidate.py",
            "run: python -m pytest -q test_candidate.py",
            "the_workflow_runs_tests_and_gate",
        ),
    )
