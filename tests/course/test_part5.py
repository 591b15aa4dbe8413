from tests.course.suite import Change, PartSuite


class TestPart5(PartSuite):
    number = 5
    mistakes = (
        Change(
            "models.py",
            'model_config = ConfigDict(extra="forbid")\n\n    tag: Tag\n',
            "tag: Tag\n",
            "a_field_that_is_not_known_is_refused",
        ),
        Change(
            "store.py",
            "Flower(**flower.model_dump() | changes)",
            "flower.model_copy(update=changes)",
            "a_corrected_flower_is_still_a_flower",
        ),
        Change(
            "store.py",
            "id=next(self._numbers)",
            "id=len(self._flowers) + 1",
            "a_number_is_never_given_again",
        ),
        Change(
            "store.py",
            "with self._lock:\n            self._refuse_taken(new.tag)",
            "if True:\n            self._refuse_taken(new.tag)",
            "two_requests_at_once_do_not_get_one_tag",
        ),
    )
