"""Writes a proposal as the files of an environment that a person reviews, and that runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from mlops_for_mle.config import comment, yaml_key, yaml_value
from mlops_for_mle.contract.infer.features import case_remark
from mlops_for_mle.contract.infer.propose import Proposal
from mlops_for_mle.pipelines.training.estimators import names_for
from mlops_for_mle.pipelines.training.options import DataCheckOptions

CONTRACT_FILE = "contract.yml"
FILES = (CONTRACT_FILE, "globals.yml", "parameters.yml")

# A class with a larger share would make the accuracy of a model that knows nothing look good.
_BALANCED_SHARE = 0.6
# As a share of all answers, or of the target's standard deviation.
_TOLERANCE = 0.02
_REASONS = {
    "number_formats": "A unit is left away: 12% is 12. Marks that are not named here are rejected.",
    "missing_marks": "What stands for a missing value; more by --missing.",
    "drop_missing_target": "Rows without a target go to the rejects and are no mistakes.",
}


def write(folder: Path, proposal: Proposal, choices: Mapping[str, Any]) -> None:
    """Write an environment.

    Args:
        folder: The environment's folder of ``conf``.
        proposal: The contract.
        choices: Where the rows come from, as ``globals.yml`` says it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = proposal.facts["name"]
    choices = {**choices, "data_folder": f"data/{folder.name}", "experiment": name}
    global_text = "".join(f"{key}: {yaml_value(value)}\n" for key, value in choices.items())
    contents = (contract_text(proposal), global_text, parameters_text(proposal))
    for file, content in zip(FILES, contents, strict=True):
        (folder / file).write_text(content, "utf-8")


def contract_text(proposal: Proposal) -> str:
    """The content of ``contract.yml``, with a remark on everything that was decided."""
    alike, unread = case_remark(proposal.target).strip("; "), proposal.unread
    return _filled(CONTRACT_FILE, proposal, facts=proposal.facts, alike=alike, unread=unread)


def parameters_text(proposal: Proposal) -> str:
    """The content of ``parameters.yml``: what suits the table other than ``conf/base`` has it."""
    checks: dict[str, Any] = {}
    usual = DataCheckOptions()
    if proposal.minimum_class_rows != usual.minimum_rows_per_class:
        checks["minimum_rows_per_class"] = proposal.minimum_class_rows
    if proposal.label_noise > (usual.maximum_label_noise or 1.0):
        checks["maximum_label_noise"] = None
    return _filled(
        FILES[-1],
        proposal,
        ingestion=proposal.ingestion,
        reasons=_REASONS,
        estimators=names_for(proposal.facts["target"]["task"]),
        gates=gates(proposal),
        data_checks=checks,
    )


def _filled(file: str, proposal: Proposal, **facts: Any) -> str:
    """A file as its template beside this module has it."""
    loader = PackageLoader(__package__, ".")
    environment = Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701
    environment.filters |= {"key": yaml_key, "value": yaml_value, "comment": comment}
    return environment.get_template(f"{file}.j2").render(proposal=proposal, **facts)


def gates(proposal: Proposal) -> dict[str, Any]:
    """The metric that decides, and how much of it is chance."""
    if not proposal.class_counts:
        # An error is in the target's own unit.
        deviation = float(proposal.target.present.astype(float).std())
        return {"metric": "rmse", "tolerance": _TOLERANCE * deviation}
    is_balanced = _largest_share(proposal) <= _BALANCED_SHARE
    metric = "accuracy" if is_balanced else "balanced_accuracy"
    return {"metric": metric, "tolerance": _TOLERANCE}


def _largest_share(proposal: Proposal) -> float:
    """The share of the rows that the most frequent class has; 0 for a regression."""
    counts = proposal.class_counts.values()
    return max(counts, default=0) / (sum(counts) or 1)
