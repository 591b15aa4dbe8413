from kedro.framework.hooks.manager import _create_hook_manager

from mlops_for_mle.training_turns import TrainingTurns


def test_a_turn_begins_before_and_ends_after_whatever_other_hooks_do() -> None:
    # Importing the settings changes the process, which is for Kedro's commands to do.
    from mlops_for_mle.settings import HOOKS

    manager = _create_hook_manager()
    for hooks in HOOKS:
        manager.register(hooks)

    # Pluggy calls the last of a list first.
    begins = manager.hook.before_pipeline_run.get_hookimpls()
    ends = manager.hook.after_pipeline_run.get_hookimpls()

    assert isinstance(begins[-1].plugin, TrainingTurns)
    assert isinstance(ends[0].plugin, TrainingTurns)
