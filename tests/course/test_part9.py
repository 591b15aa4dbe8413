from tests.course.suite import Change, PartSuite


class TestPart9(PartSuite):
    number = 9
    ports = (8000, 8001)
    mistakes = (
        Change(
            "measures.py",
            "stability_index(*counts) - by_chance(*counts)",
            "stability_index(*counts)",
            "a_small_sample_alone_is_no_drift",
        ),
        Change(
            "measures.py",
            'labels.sort_values("told_on", kind="stable")',
            "labels",
            "a_correction_replaces_the_label",
        ),
        Change(
            "retraining.py",
            "candidate = fit(older)",
            "candidate = fit(rows)",
            "the_candidate_has_not_seen_the_rows_it_is_compared_on",
        ),
    )
