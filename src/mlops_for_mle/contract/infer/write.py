"""Writes a proposal as the files of an environment that a person reviews, and that runs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader

from mlops_for_mle.contract.infer.decide import one_line
from mlops_for_mle.contract.infer.propose import Proposal
from mlops_for_mle.errors import ConfigurationError, UserError
from mlops_for_mle.pipelines.training.options import DataCheckOptions

FILES = ("contract.yml", "globals.yml", "parameters.yml")
# An environment keeps its files in data/ENV, beside the project's own folders.
_TAKEN = r"base|local|mlflow|postgres|releases|serving_.*|\d\d_.*"
_FLOW: Any = {"default_flow_style": True, "allow_unicode": True, "sort_keys": False, "width": 10**9}
# A class with a larger share would make the accuracy of a model that knows nothing look good.
_BALANCED_SHARE = 0.6
# As a share of all answers, or of the target's standard deviation.
_TOLERANCE = 0.02


def free_folder(project: Path, env: str, contract: str, *, force: bool) -> Path:
    """The folder of ``conf`` for a new environment and the contract of a name.

    Raises:
        UserError: It is no name of an environment, or a file or contract would be overwritten.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", env) or re.fullmatch(_TAKEN, env, re.I):
        raise ConfigurationError(
            f"--name or --env: expected letters from a to z, digits, _ and -, and no folder of the "
            f"project's own in conf or data (found {env!r})"
        )
    for path in (project / "conf").glob(f"*/{FILES[0]}"):
        # Empty where a disk was full, or a person has just begun.
        content = (yaml.safe_load(path.read_text("utf-8")) or {}).get("contract") or {}
        if content.get("name") == contract and path.parent.name != env:
            raise ConfigurationError(
                f"--name: conf/{path.parent.name} has a contract {contract!r} already, whose table "
                "and model it would share; name another."
            )
    folder = project / "conf" / env
    existing = [name for name in FILES if (folder / name).exists()]
    if existing and not force:
        raise UserError(
            f"conf/{env} has {', '.join(existing)} already: name another --env, or overwrite with "
            "--force."
        )
    return folder


def write(folder: Path, proposal: Proposal, settings: Mapping[str, Any]) -> str:
    """Write an environment's folder of ``conf``; gives what was found and what to run, in words."""
    added = {"data_folder": f"data/{folder.name}", "experiment": proposal.facts["name"]}
    contents = texts(proposal, {**settings, **added})
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        (folder / file).write_text(content, "utf-8")
    column, classes = proposal.target.name, proposal.facts["target"].get("classes")
    goal = f"{len(classes)} classes of {column}" if classes else f"regression of {column}"
    summary = [
        ("contract", f"conf/{folder.name}/{FILES[0]}, to review"),
        ("rows", f"{len(proposal.target.values):,} from {proposal.source}"),
        ("target", f"{goal}, decided by {_gates(proposal)['metric']}"),
        ("features", f"{len(proposal.features)}"),
        *(("left out", f"{column.name} {column.left_out}") for column in proposal.left_out),
        ("run it", f"kedro run --env {folder.name}"),
        ("serve it", f"kedro serve --env {folder.name}"),
    ]
    return "\n".join(f"  {name:<8}  {value}" for name, value in summary)


def texts(proposal: Proposal, settings: Mapping[str, Any]) -> dict[str, str]:
    """The content of each file; ``settings`` of ``globals.yml`` say where the rows come from."""
    facts = {
        "proposal": proposal,
        "settings": settings,
        "gates": _gates(proposal),
        "defaults": DataCheckOptions(),
    }
    loader = PackageLoader(__package__, ".")
    templates = Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701
    templates.filters |= {"key": as_key, "value": as_value, "comment": one_line}
    return {file: templates.get_template(f"{file}.j2").render(facts) for file in FILES}


def as_key(value: Any) -> str:
    """Text, a number, a boolean, None, or a list or mapping of these, on one line of YAML."""
    return str(yaml.dump([value], Dumper=_Dumper, **_FLOW)).rstrip("\n")[1:-1]


def as_value(value: Any) -> str:
    """The same for a value, escaped so that OmegaConf finds nothing to interpolate in it."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\\\${", as_key(value))


class _Dumper(yaml.SafeDumper):
    """Quotes also what OmegaConf takes for a number or interpolation, and odd line breaks."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        is_plain = text[:1].isalpha() and text.isprintable() and "$" not in text
        return self.represent_scalar("tag:yaml.org,2002:str", text, None if is_plain else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def _gates(proposal: Proposal) -> dict[str, Any]:
    """The metric that decides, and how much of it is chance."""
    counts = proposal.target.counts
    if proposal.facts["target"]["task"] == "regression":
        # An error is in the target's own unit.
        deviation = float(proposal.target.present.astype(float).std())
        return {"metric": "rmse", "tolerance": _TOLERANCE * deviation}
    is_balanced = counts.max() <= _BALANCED_SHARE * counts.sum()
    return {"metric": "accuracy" if is_balanced else "balanced_accuracy", "tolerance": _TOLERANCE}
