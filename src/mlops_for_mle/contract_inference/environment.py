"""The files of an environment with which ``kedro run --env`` does the whole line."""

from collections.abc import Mapping
from typing import Any

from mlops_for_mle.contract_inference.document import contract_document
from mlops_for_mle.contract_inference.proposal import Proposal
from mlops_for_mle.contract_inference.yaml_text import yaml_key, yaml_value
from mlops_for_mle.pipelines.training.estimators import names_for, propose_estimator

CONTRACT_FILE = "parameters_contract.yml"
ENVIRONMENT_FILES = (
    CONTRACT_FILE,
    "globals.yml",
    "parameters_data_ingestion.yml",
    "parameters_training.yml",
    "parameters_registry.yml",
)
# A class with a larger share would make the accuracy of a model that knows nothing look good.
_BALANCED_SHARE = 0.6
# As a share of all answers, or of the target's standard deviation.
_TOLERANCE = 0.02


def environment_files(
    proposal: Proposal, source: Mapping[str, Any], env: str | None = None
) -> dict[str, str]:
    """The files of the environment by name.

    Args:
        proposal: The contract.
        source: Where the rows come from, as ``globals.yml`` says it.
        env: The environment's name; None takes the contract's.
    """
    contents = (
        contract_document(proposal),
        _globals(proposal, {**source, "data_folder": f"data/{env or proposal.name}"}),
        _ingestion(proposal),
        _training(proposal),
        _gates(proposal),
    )
    return dict(zip(ENVIRONMENT_FILES, contents, strict=True))


def deciding_metric(proposal: Proposal) -> str:
    """The metric that the gates look at."""
    if proposal.target.task == "regression":
        return "rmse"
    return "accuracy" if _largest_share(proposal) <= _BALANCED_SHARE else "balanced_accuracy"


def _largest_share(proposal: Proposal) -> float:
    """The share of the rows that the most frequent class has; 0 for a regression."""
    counts = proposal.target.counts.values()
    return max(counts, default=0) / (sum(counts) or 1)


def _globals(proposal: Proposal, choices: Mapping[str, Any]) -> str:
    lines = [f"{yaml_key(key)}: {yaml_value(value)}" for key, value in choices.items()]
    return "\n".join([*lines, f"experiment: {yaml_value(proposal.name)}", ""])


def _ingestion(proposal: Proposal) -> str:
    return f"""ingestion:
  source: ${{runtime_params:source, ${{globals:source}}}}
  # The source's column names: the contract's.
  rename:{_block(proposal.rename)}
  # How dates are written in the source, where that is not ISO 8601: codes of strptime.
  date_formats:{_block(proposal.date_formats)}
  maximum_rejected_fraction: 0.5
"""


def _block(values: Mapping[str, str]) -> str:
    lines = "".join(f"\n    {yaml_key(key)}: {yaml_value(one)}" for key, one in values.items())
    return lines or " {}"


def _training(proposal: Proposal) -> str:
    task, share = proposal.target.task, _largest_share(proposal)
    proposed, parameters = propose_estimator(task, share), "    parameters: {}"
    if proposed.parameters:
        parameters = f"""\
    # {100 * share:.3g} % of the rows are of one class. With balanced weights the others are
    # found, at the price of probabilities that no longer are how often answers are right, of
    # which monitoring warns; without, hardly any row is answered with them. mlp takes none.
    parameters: {yaml_value(proposed.parameters)}"""
    return f"""training:
  validation_fraction: 0.25
  seed: 42
  estimator:
    # One of {", ".join(names_for(task))}; or class_path: any of scikit-learn's.
    name: {proposed.name}
{parameters}
  search: null
"""


def _gates(proposal: Proposal) -> str:
    metric, tolerance = deciding_metric(proposal), _TOLERANCE
    if metric == "rmse":
        # An error is in the target's own unit.
        tolerance *= float(proposal.target.column.present.std())
    chance = f"{1 / len(proposal.target.counts):.2g}" if proposal.target.counts else ""
    note = f"  # a model that knows nothing has {chance}" * (metric == "balanced_accuracy")
    return f"""gates:
  metric: {metric}{note}
  # A candidate must reach it; null lets the first one pass and compares later ones with it.
  threshold: null
  tolerance: {tolerance:.3g}
"""
