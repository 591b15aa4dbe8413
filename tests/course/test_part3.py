import pytest

from tests.course.suite import Change, PartSuite


@pytest.mark.usefixtures("mlflow_for_checks")
class TestPart3(PartSuite):
    number = 3
    ports = (5000,)
    mistakes = (
        Change(
            "save_model_to_registry.py",
            "with mlflow.start_run():",
            "mlflow.start_run()\n    if True:",
            "a_training_that_fails_leaves_a_run_that_failed",
        ),
        Change(
            "registry.py",
            "if not math.isclose(measured, recorded):",
            "if False:",
            "a_model_that_is_not_what_its_run_measured_gets_no_alias",
        ),
        Change(
            "compose.yaml",
            "127.0.0.1:5000:5000",
            "5000:5000",
            "compose_opens_the_registry_to_this_machine_only",
        ),
    )
    variants = (
        Change(
            "registry.py",
            'f"Version {version} has {measured:.4f}, its run recorded {recorded:.4f}"',
            '"another model"',
            "a_model_that_is_not_what_its_run_measured_gets_no_alias",
        ),
        Change(
            "load_model_from_registry.py",
            "pd.read_csv(path)).tolist()",
            "__import__('data').read_csv(path)).tolist()",
            "the_programs_save_and_load",
        ),
        Change(
            "load_model_from_registry.py",
            "(MlflowException, OSError)",
            "(MlflowException, OSError, ValueError)",
            "the_programs_save_and_load",
        ),
    )
