import pytest

from tests.course.suite import Change, PartSuite


@pytest.mark.usefixtures("mlflow_for_checks")
class TestPart6(PartSuite):
    number = 6
    ports = (5000, 8000, 8001)
    mistakes = (
        Change(
            "champion.py",
            "            load(incomplete)\n",
            "",
            "a_broken_model_does_not_take_the_place_of_the_champion",
        ),
        Change(
            "champion.py",
            "link.symlink_to(version)",
            "link.symlink_to(models / version)",
            "download_brings_the_version_that_the_alias_names",
        ),
        Change(
            "app.py",
            "champion = serving.ready()\n",
            "champion = load(folder)\n",
            "the_model_is_loaded_once_and_not_for_each_request",
        ),
    )
