import pytest

from tests.course.suite import Mistake, PartSuite


@pytest.mark.usefixtures("mlflow_for_checks")
class TestPart6(PartSuite):
    number = 6
    ports = (5000, 8000, 8001)
    mistakes = (
        Mistake(
            "champion.py",
            "        predict(champion, [EXAMPLE])\n",
            "",
            "a_server_with_a_model_that_does_not_answer_says_why_it_is_not_ready",
        ),
        Mistake(
            "champion.py",
            "            load(incomplete)\n",
            "",
            "a_broken_model_does_not_take_the_place_of_the_champion",
        ),
        Mistake(
            "champion.py",
            "link.symlink_to(version)",
            "link.symlink_to(models / version)",
            "download_brings_the_version_that_the_alias_names",
        ),
        Mistake(
            "compose.yaml",
            "http://mlflow:5000",
            "http://localhost:5000",
            "compose_starts_the_server_without_waiting_for_the_registry",
        ),
        Mistake(
            "app.py",
            "champion = serving.ready()\n",
            "champion = load(folder)\n",
            "the_model_is_loaded_once_and_not_for_each_request",
        ),
        Mistake(
            "app.py",
            "serving.ready().version}",
            "str(serving.champion)}",
            "a_server_without_a_model_lives_and_is_not_ready_until_there_is_one",
        ),
        Mistake(
            "client.py",
            "in PASSING",
            ">= 400",
            "what_will_not_pass_is_not_asked_again",
        ),
    )
