import subprocess
import sys

import pytest

from tests.course.suite import Mistake, PartSuite


class TestPart7(PartSuite):
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
    )

    @pytest.mark.end_to_end
    def test_the_commands_of_the_readme_show_what_it_says(self, project):
        """The README starts a broker in the background, which must end even where it fails."""
        try:
            super().test_the_commands_of_the_readme_show_what_it_says(project)
        finally:
            work = project.folder / f"work/part{self.number}"
            subprocess.run([sys.executable, "broker.py", "stop"], cwd=work, check=False)
