"""The candidate that training has logged, as the pipeline registry finds it."""

from typing import Any

from mlops_for_mle.contract import Contract
from mlops_for_mle.datasets.base import ReadOnlyDataset
from mlops_for_mle.records import Candidate


class CandidateDataset(ReadOnlyDataset[Candidate]):
    """The candidate of the active run, else the one that was logged last."""

    # It belongs to MLflow's run, which is in this process.
    _SINGLE_PROCESS = True

    def __init__(
        self,
        contract: dict[str, Any],
        experiment: str,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Take the parameters block ``contract`` and the experiment's name."""
        self._contract = Contract.model_validate(contract)
        self._experiment = experiment
        self.metadata = metadata

    def load(self) -> Candidate:
        """Find the candidate.

        Raises:
            PrerequisiteError: None was trained yet.
        """
        import mlflow

        from mlops_for_mle.datasets.model_registry import CANDIDATE_TAG, newest_candidate

        client = mlflow.MlflowClient()
        active = mlflow.active_run()
        if active is not None:
            tags = client.get_run(active.info.run_id).data.tags
            if CANDIDATE_TAG in tags:
                return Candidate(active.info.run_id, tags[CANDIDATE_TAG])
        return newest_candidate(client, self._contract.name, self._experiment)

    def _describe(self) -> dict[str, Any]:
        return {"contract": self._contract.name}
