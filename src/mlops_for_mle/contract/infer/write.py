"""Writes a proposal as the files of an environment that a person reviews, and that runs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlops_for_mle.contract.infer.propose import Candidate, Proposal
from mlops_for_mle.pipelines.training.estimators import names_for, propose_estimator
from mlops_for_mle.pipelines.training.options import DataCheckOptions

CONTRACT_FILE = "contract.yml"
FILES = (CONTRACT_FILE, "globals.yml", "parameters.yml")

_OPTIONS = {
    "rename": "The source's column names: the contract's.",
    "date_formats": "How dates are written, in the codes of strptime.",
    "missing_marks": "What stands for a missing value.",
}
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
    choices = {**choices, "data_folder": f"data/{folder.name}", "experiment": proposal.name}
    contents = (
        contract_text(proposal),
        "".join(f"{key}: {yaml_value(value)}\n" for key, value in choices.items()),
        parameters_text(proposal),
    )
    for name, content in zip(FILES, contents, strict=True):
        partial = folder / f"{name}.partial"
        partial.write_text(content, "utf-8")
        partial.replace(folder / name)


def summary(proposal: Proposal, env: str, choices: Mapping[str, Any]) -> str:
    """Say in a few lines what was found and what to run."""
    keys = ("csv_encoding", "csv_separator", "csv_decimal", "csv_header")
    form = ", ".join(f"{key}: {yaml_value(choices[key])}" for key in keys if key in choices)
    how = f", read with {form}" if form else ""
    column, classes = proposal.target.name, proposal.class_counts
    what = f"{len(classes)} classes of {column}" if classes else f"regression of {column}"
    lines = [
        ("contract", f"conf/{env}/{CONTRACT_FILE}, to review"),
        ("rows", f"{proposal.row_count:,} from {proposal.source}{how}"),
        ("target", f"{what}, decided by {_gates(proposal)['metric']}"),
        ("features", f"{len(proposal.features)}"),
        *(("left out", f"{one.source_name} {one.left_out}") for one in proposal.left_out),
        ("run it", f"kedro run --env {env}"),
        ("serve it", f"kedro serve --env {env}"),
    ]
    return "\n".join(f"  {name:<8}  {value}" for name, value in lines)


def contract_text(proposal: Proposal) -> str:
    """The content of ``contract.yml``, with a remark on everything that was decided."""
    times = [
        one.source_name
        for one in proposal.features
        if one.keys and one.keys["type"] in ("date", "timestamp")
    ]
    could_be = f" Could be {comment(' or '.join(times))}, by --time." if times else ""
    lines = [
        f"# Inferred from {comment(proposal.source)}, {proposal.row_count:,} rows. Please review:",
        "# are the ranges right for values that are still to come, is every feature known at the",
        "# time of a prediction, are the categories complete? What each key means stands in",
        "# src/mlops_for_mle/contract/model.py.",
        "contract:",
        f"  name: {yaml_value(proposal.name)}",
        f"  table: {proposal.name}_data",
        f"  key: {yaml_key(proposal.key)}  # our own serial number",
        "  # When a row was observed; the time of ingestion where the source does not say it."
        + could_be,
        f"  timestamp: {yaml_key(proposal.timestamp)}",
        "  features:",
    ]
    for one in proposal.features:
        lines += [f"    # {comment(one.remark)}", f"    {_as_feature(one)}"]
    if proposal.left_out:
        lines.append("    # Left out; a line with the form of a feature can be put back as it is.")
    for one in proposal.left_out:
        lines.append(f"    # {comment(f'{one.source_name} {one.left_out}')}.")
        lines += [f"    # {_as_feature(one)}"] if one.keys else []
    return "\n".join([*lines, *_target(proposal), ""])


def _as_feature(one: Candidate) -> str:
    return f"{yaml_key(one.name)}: {yaml_value(one.keys)}"


def _target(proposal: Proposal) -> Iterator[str]:
    missing, counts = proposal.target.missing_count, proposal.class_counts
    yield "  target:"
    if missing:
        yield f"    # Missing in {missing:,} rows, which ingestion rejects."
    for key, value in proposal.target_keys.items():
        if key != "classes":
            yield f"    {key}: {yaml_value(value)}"
    if counts:
        yield "    classes:"
    for one in proposal.target_keys.get("classes", []):
        rows = counts[one["value"]]
        share = 100 * rows / sum(counts.values())
        yield f"      - {yaml_value(one)}  # {rows:,} rows, {share:.3g} %"


def parameters_text(proposal: Proposal) -> str:
    """The content of ``parameters.yml``: what suits the table other than ``conf/base`` has it."""
    task, gates = proposal.contract().target.task, _gates(proposal)
    estimator = propose_estimator(task, _largest_share(proposal))
    lines = ["ingestion:"] if any(proposal.ingestion.values()) else []
    for option, values in proposal.ingestion.items():
        if values:
            lines += [f"  # {_OPTIONS[option]}", f"  {option}:"]
            lines += [f"    {yaml_key(key)}: {yaml_value(value)}" for key, value in values.items()]
    lines += [
        "training:",
        "  estimator:",
        f"    # One of {', '.join(names_for(task))}; or class_path: any of scikit-learn's.",
        f"    name: {estimator.name}",
    ]
    if estimator.parameters:
        lines += [
            f"    # {100 * _largest_share(proposal):.3g} % of the rows are of one class. With",
            "    # balanced weights the others are found, at the price of probabilities that no",
            "    # longer are how often answers are right, of which monitoring warns; without,",
            "    # hardly any row is answered with them. mlp takes none.",
            f"    parameters: {yaml_value(estimator.parameters)}",
        ]
    chance = f"  # a model that knows nothing has {1 / (len(proposal.class_counts) or 1):.2g}"
    lines += [
        "gates:",
        f"  metric: {gates['metric']}" + chance * (gates["metric"] == "balanced_accuracy"),
        "  # A candidate must reach it; null lets the first one pass and compares later ones.",
        "  threshold: null",
        f"  tolerance: {gates['tolerance']:.3g}",
    ]
    return "\n".join([*lines, *_data_checks(proposal), ""])


def _data_checks(proposal: Proposal) -> Iterator[str]:
    """What training's checks must allow, so that it trains on these rows."""
    limit = DataCheckOptions().maximum_label_noise or 1.0
    if proposal.allowed_predictors or proposal.label_noise > limit:
        yield "data_checks:"
    if proposal.allowed_predictors:
        yield f"  allowed_predictors: {yaml_value(proposal.allowed_predictors)}"
    if proposal.label_noise > limit:
        share = f"About {100 * proposal.label_noise:.2g} % of the labels"
        yield f"  # {share} contradict those of like rows: wrong ones, or chance."
        yield "  maximum_label_noise: null"


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
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(yaml_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    # OmegaConf finds nothing to interpolate in it.
    return yaml_key(_INTERPOLATION.sub(lambda found: found[1] * 2 + r"\${", str(value)))


def yaml_key(name: str) -> str:
    """Text, quoted where it has to be; in keys nothing is interpolated."""
    if _PLAIN.fullmatch(name) and not _TAKEN.fullmatch(name):
        return name
    quoted = yaml.safe_dump(name, default_style='"', allow_unicode=True, width=10**9)
    return quoted.rstrip("\n")


def comment(text: str) -> str:
    """Text that can stand behind a ``#``: without line breaks or control characters."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())
