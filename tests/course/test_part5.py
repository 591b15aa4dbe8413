from tests.course.suite import Mistake, Variant, VariantSuite


class TestPart5(VariantSuite):
    number = 5
    mistakes = (
        Mistake("app.py", ", status_code=status.HTTP_201_CREATED", "", "a_flower_is_created"),
        Mistake(
            "models.py",
            'model_config = ConfigDict(extra="forbid")\n\n    tag: Tag\n',
            "tag: Tag\n",
            "a_field_that_is_not_known_is_refused",
        ),
        Mistake(
            "store.py",
            "exclude_unset=True",
            "exclude_none=True",
            "a_correction_changes_what_it_has_and_nothing_else",
        ),
        Mistake(
            "store.py",
            "Flower(**flower.model_dump() | changes)",
            "flower.model_copy(update=changes)",
            "a_corrected_flower_is_still_a_flower",
        ),
        Mistake(
            "store.py",
            "id=next(self._numbers)",
            "id=len(self._flowers) + 1",
            "a_number_is_never_given_again",
        ),
        Mistake(
            "Dockerfile", "models.py store.py", "models.py", "the_image_holds_what_the_api_needs"
        ),
    )
    variants = (
        Variant(
            "Dockerfile",
            "COPY models.py store.py app.py ./",
            "COPY *.py ./",
            "the_image_holds_what_the_api_needs",
        ),
        Variant(
            "compose.yaml",
            'ports: ["127.0.0.1:8000:8000"]',
            "ports: [{host_ip: 127.0.0.1, published: 8000, target: 8000}]",
            "compose_publishes_the_port_on_this_machine_only",
        ),
    )
