from tests.course.suite import Mistake, PartSuite


class TestPart9(PartSuite):
    number = 9
    ports = (8000, 8001)
    mistakes = (
        Mistake(
            "measures.py",
            ", minlength=len(edges) + 1",
            "",
            "a_value_beyond_all_that_was_seen_is_counted",
        ),
        Mistake(
            "measures.py",
            'dropna(subset="fails")',
            "dropna()",
            "a_prediction_without_a_label_waits",
        ),
        Mistake(
            "measures.py",
            "stability_index(*counts) - by_chance(*counts)",
            "stability_index(*counts)",
            "a_small_sample_alone_is_no_drift",
        ),
        Mistake(
            "measures.py",
            'labels.sort_values("told_on", kind="stable")',
            "labels",
            "a_correction_replaces_the_label",
        ),
        Mistake(
            "monitor.py",
            'findings.dropna(subset=measure).tail(limits["windows"])',
            'findings.tail(limits["windows"])',
            "two_bad_windows_of_three_call_for_something",
        ),
        Mistake(
            "monitor.py",
            'if len(known) >= limits["labelled"] * len(window):',
            "if len(known):",
            "labels_of_one_kind_that_come_early_judge_nothing",
        ),
        Mistake(
            "monitor.py",
            'joined.rows[joined.rows["day"] >= decision["since"]]',
            "joined.rows",
            "the_model_is_replaced_once_when_the_world_has_changed",
        ),
        Mistake(
            "retraining.py",
            "candidate = fit(older)",
            "candidate = fit(rows)",
            "the_candidate_has_not_seen_the_rows_it_is_compared_on",
        ),
    )
