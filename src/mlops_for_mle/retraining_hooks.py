"""Lets the pipeline retrain run only when it is called for, and records how it ended."""

from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from mlops_for_mle.contract import Contract
from mlops_for_mle.errors import NotCalledForError

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

    from mlops_for_mle.records_retraining import RetrainingDecision

PIPELINE = "retrain"

# The options of `kedro run` that leave nodes out.
_CHOOSING = ("tags", "from_nodes", "to_nodes", "node_names", "from_inputs", "to_outputs")


class RetrainingHooks:
    """Hooks around the pipeline retrain; others are not touched."""

    def __init__(self) -> None:
        self._contract: Contract | None = None
        self._decision: RetrainingDecision | None = None
        self._candidate: str | None = None

    @hook_impl
    def after_context_created(self, context: "KedroContext") -> None:
        """Take the contract."""
        raw = context.config_loader["parameters"].get("contract")
        self._contract = Contract.model_validate(raw)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Ask the newest decision, before MLflow opens a run.

        Raises:
            NotCalledForError: It does not call for a retraining, or was acted on.
        """
        self._decision = self._candidate = None
        if PIPELINE not in _names(run_params) or self._contract is None:
            return
        from mlops_for_mle import database, retraining_log

        url = database.database_url()
        database.prepare(url, self._contract)
        with database.reachable(url) as engine, engine.connect() as connection:
            decision = retraining_log.newest(connection, self._contract.name)
        if decision is None or not decision.is_pending:
            raise NotCalledForError(_why_not(decision))
        self._decision = decision

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Remember which run was decided on; another one may register a version meanwhile."""
        if dataset_name == "champion@decision":
            self._candidate = data.run_id

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Record how the retraining ended; a part of it ends nothing."""
        if self._decision is None or self._decision.id is None or _is_partial(run_params):
            return
        if self._candidate is None:
            return
        from mlflow import MlflowClient

        from mlops_for_mle import database, retraining_log
        from mlops_for_mle.pipelines.registry.datasets import decision_on, find_version

        version = find_version(MlflowClient(), self._decision.contract, self._candidate)
        outcome = f"version {version.version} {decision_on(version)}"
        with database.reachable(database.database_url()) as engine, engine.begin() as connection:
            retraining_log.conclude(connection, self._decision.id, outcome)


def _names(run_params: dict[str, Any]) -> list[str | None]:
    return list(run_params.get("pipeline_names") or [run_params.get("pipeline_name")])


def _is_partial(run_params: dict[str, Any]) -> bool:
    return any(run_params.get(name) for name in _CHOOSING)


def _why_not(decision: "RetrainingDecision | None") -> str:
    anyway = "`kedro run` trains anyway."
    if decision is None:
        return f"Nothing was monitored yet: run `kedro run --pipeline monitoring` first. {anyway}"
    if decision.acted_at is not None:
        return (
            f"Retraining is not called for: decision {decision.id} was acted on at "
            f"{decision.acted_at:%Y-%m-%d %H:%M:%S %Z} ({decision.outcome}). {anyway}"
        )
    return (
        f"Retraining is not called for: decision {decision.id} says {decision.decision}. "
        f"{' '.join(decision.reasons)} {anyway}"
    )
