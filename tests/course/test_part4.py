from tests.course.suite import Mistake, PartSuite


class TestPart4(PartSuite):
    number = 4
    mistakes = (
        Mistake(
            "releases.py",
            "            stack.pop()\n        elif",
            "            stack.append(entry['release'])\n        elif",
            "rolling_back_twice_goes_back_twice",
        ),
        Mistake(
            "releases.py",
            '"\\n" + json.dumps({"event": event, "release": name})',
            'json.dumps({"event": event, "release": name}) + "\\n"',
            "half_a_line_of_the_history_costs_nothing_else",
        ),
        Mistake(
            "router.py",
            "int.from_bytes(hashlib.sha256(customer.encode()).digest()[:8]) / 2**64",
            "hash(customer) % 1000 / 1000",
            "a_customer_is_always_answered_by_the_same_release",
        ),
    )
