import subprocess
import sys

import pytest

from tests.course.suite import Mistake, Variant, VariantSuite
from tests.end_to_end.commands import Project


class TestPart7(VariantSuite):
    number = 7
    ports = (9092,)
    mistakes = (
        Mistake(
            "messages.py",
            "except (ValueError, RecursionError)",
            "except ValueError",
            "what_is_no_row_is_refused_with_a_reason",
        ),
        Mistake(
            "producer.py",
            "    producer.flush()\n",
            "    producer.poll(0.01)\n",
            "messages_are_sent_and_confirmed",
        ),
        Mistake(
            "consumer.py",
            "        try:\n            rows, dead = write(",
            "        consumer.commit(asynchronous=False)\n        try:\n"
            "            rows, dead = write(",
            "kill_9_before_the_rows_are_written_loses_none",
        ),
        Mistake(
            "consumer.py",
            "%s, %s) ON CONFLICT DO NOTHING",
            "%s, %s)",
            "a_message_that_comes_twice_is_written_once",
        ),
        Mistake(
            "consumer.py",
            "[one for one in found if one.error() is None]",
            "found",
            "an_error_of_the_client_is_no_message",
        ),
    )
    variants = (
        Variant(
            "Dockerfile",
            "COPY database.py messages.py consumer.py tables.sql ./",
            "COPY . ./",
            "the_image_holds_what_the_consumer_needs",
        ),
    )

    @pytest.mark.end_to_end
    def test_the_commands_of_the_readme_show_what_it_says(self, project: Project) -> None:
        """The README starts a broker in the background, which must end even where it fails."""
        try:
            super().test_the_commands_of_the_readme_show_what_it_says(project)
        finally:
            work = project.folder / f"work/part{self.number}"
            subprocess.run([sys.executable, "broker.py", "stop"], cwd=work, check=False)
