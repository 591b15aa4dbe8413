"""Writes a proposal as the files of an environment that a person reviews, and that runs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlops_for_mle.contract.infer.propose import Candidate, Proposal
from mlops_for_mle.pipelines.training.estimators import names_for
from mlops_for_mle.pipelines.training.options import DataCheckOptions

CONTRACT_FILE = "contract.yml"
FILES = (CONTRACT_FILE, "globals.yml", "parameters.yml")

# A class with a larger share would make the accuracy of a model that knows nothing look good.
_BALANCED_SHARE = 0.6
# As a share of all answers, or of the target's standard deviation.
_TOLERANCE = 0.02
# Letters of any script with digits, spaces and underscores between them need no quotes…
_PLAIN = re.compile(r"[^\W\d_](?:[\w -]*\w)?")
# …unless YAML or OmegaConf takes them for something else.
_TAKEN = re.compile(r"(?:y|n|yes|no|on|off|true|false|null|none|nan|inf|infinity)", re.IGNORECASE)
_INTERPOLATION = re.compile(r"(\\*)\$\{")


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


def summary(proposal: Proposal, env: str, choices: Mapping[str, Any]) -> str:
    """Say in a few lines what was found and what to run."""
    form = {key: value for key, value in choices.items() if key.startswith("csv_")}
    how = ", ".join(f"{key}: {yaml_value(form[key])}" for key in form if key != "csv_path")
    column, classes = proposal.target.name, proposal.class_counts
    what = f"{len(classes)} classes of {column}" if classes else f"regression of {column}"
    lines = [
        ("contract", f"conf/{env}/{CONTRACT_FILE}, to review"),
        ("rows", f"{proposal.row_count:,} from {proposal.source}{how and f', read with {how}'}"),
        ("target", f"{what}, decided by {_gates(proposal)['metric']}"),
        ("features", f"{len(proposal.features)}"),
        *(("left out", f"{one.source_name} {one.left_out}") for one in proposal.left_out),
        ("run it", f"kedro run --env {env}"),
        ("serve it", f"kedro serve --env {env}"),
    ]
    return "\n".join(f"  {name:<8}  {value}" for name, value in lines)


def contract_text(proposal: Proposal) -> str:
    """The content of ``contract.yml``, with a remark on everything that was decided."""
    facts = proposal.facts
    lines = [
        f"# Inferred from {comment(proposal.source)}, {proposal.row_count:,} rows. Please review:",
        "# are the ranges right for values that are still to come, is every feature known at the",
        "# time of a prediction, are the categories complete? What each key means stands in",
        "# src/mlops_for_mle/contract/model.py.",
        "contract:",
        f"  name: {yaml_value(facts['name'])}",
        f"  table: {facts['table']}",
        f"  key: {yaml_key(facts['key'])}  # our own serial number",
        "  # When a row was observed; the time of ingestion where the source does not say it.",
        f"  timestamp: {yaml_key(facts['timestamp'])}",
        "  features:",
    ]
    for one in proposal.features:
        lines += [f"    # {comment(one.remark)}", f"    {_as_feature(one)}"]
    if proposal.left_out:
        lines.append("    # Left out; a line with the form of a feature can be put back as it is.")
    for one in proposal.left_out:
        lines.append(f"    # {comment(f'{one.source_name} {one.left_out}')}.")
        lines += [f"    # {_as_feature(one)}"] if one.keys else []
    lines.append("  target:")
    if missing := proposal.target.missing_count:
        lines.append(f"    # Missing in {missing:,} rows, which ingestion rejects.")
    target = dict(facts["target"])
    classes = target.pop("classes", [])
    lines += [f"    {key}: {yaml_value(value)}" for key, value in target.items()]
    lines += ["    classes:"] if classes else []
    for one in classes:
        lines.append(f"      - {yaml_value(one)}  # {proposal.class_counts[one['value']]:,} rows")
    return "\n".join([*lines, ""])


def _as_feature(one: Candidate) -> str:
    return f"{yaml_key(one.name)}: {yaml_value(one.keys)}"


def parameters_text(proposal: Proposal) -> str:
    """The content of ``parameters.yml``: what suits the table other than ``conf/base`` has it."""
    task, gates = proposal.facts["target"]["task"], _gates(proposal)
    ingestion = {option: values for option, values in proposal.ingestion.items() if values}
    lines = ["ingestion:"] if ingestion else []
    for option, values in ingestion.items():
        lines.append(f"  {option}:")
        lines += [f"    {yaml_key(key)}: {yaml_value(value)}" for key, value in values.items()]
    lines += [
        "training:",
        "  estimator:",
        "    # The better of a linear model and boosted trees, by cross-validation; or one of",
        f"    # {', '.join(names_for(task))}; or class_path: any of scikit-learn's.",
        "    name: auto",
    ]
    if proposal.is_timed:
        lines += [
            "  # Rows have a time: the newest are held back, since a model is asked of what comes.",
            "  split: {by: time}",
        ]
    lines += [
        "gates:",
        f"  metric: {gates['metric']}",
        "  # A candidate must reach it; null lets the first one pass and compares later ones.",
        "  threshold: null",
        f"  tolerance: {gates['tolerance']:.3g}",
    ]
    if proposal.label_noise > (DataCheckOptions().maximum_label_noise or 1.0):
        share = f"About {100 * proposal.label_noise:.2g} % of the labels"
        lines += [
            "data_checks:",
            f"  # {share} contradict those of like rows: wrong ones, or chance.",
            "  maximum_label_noise: null",
        ]
    return "\n".join([*lines, ""])


def _gates(proposal: Proposal) -> dict[str, Any]:
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


def yaml_value(value: Any) -> str:
    """Text, a number, a boolean, None, or a list or mapping of these, in YAML's flow style."""
    if isinstance(value, Mapping):
        pairs = (f"{yaml_key(str(key))}: {yaml_value(one)}" for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, str):
        # OmegaConf finds nothing to interpolate in it.
        return yaml_key(_INTERPOLATION.sub(lambda found: found[1] * 2 + r"\${", value))
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(yaml_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def yaml_key(name: str) -> str:
    """Text, quoted where it has to be; in keys nothing is interpolated."""
    if _PLAIN.fullmatch(name) and not _TAKEN.fullmatch(name):
        return name
    quoted = yaml.safe_dump(name, default_style='"', allow_unicode=True, width=10**9)
    return quoted.rstrip("\n")


def comment(text: str) -> str:
    """Text that can stand behind a ``#``: without line breaks or control characters."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())
