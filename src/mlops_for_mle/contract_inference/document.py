"""Writes a proposal as the parameters file that a person reviews."""

from collections.abc import Iterator

from mlops_for_mle.contract_inference.proposal import LeftOut, Proposal
from mlops_for_mle.contract_inference.yaml_text import comment, yaml_key, yaml_value


def contract_document(proposal: Proposal) -> str:
    """The content of ``parameters_contract.yml``, with a remark on everything that was decided."""
    lines = [*_head(proposal), *_features(proposal), *_target(proposal)]
    return "\n".join(lines) + "\n"


def _head(proposal: Proposal) -> Iterator[str]:
    keys = ", ".join(map(comment, proposal.keys))
    times = " or ".join(comment(one) for one in proposal.times if one != proposal.timestamp)
    yield from (
        f"# Inferred from {comment(proposal.source)}, {proposal.row_count:,} rows. Please review:",
        "# are the ranges right for values that are still to come, is every feature known at the",
        "# time of a prediction, are the categories complete? What each key means stands in",
        "# src/mlops_for_mle/feature.py.",
        "contract:",
        f"  name: {yaml_value(proposal.name)}",
        f"  table: {proposal.name}_data",
        "  # Our own serial number."
        + (f" The source tells its rows apart by {keys}." if keys else ""),
        f"  key: {yaml_key(proposal.key)}",
        "  # When a row was observed; the time of ingestion where the source does not say it."
        + (f" Could be {times}, by --time." if times else ""),
        f"  timestamp: {yaml_key(proposal.timestamp)}",
    )


def _features(proposal: Proposal) -> Iterator[str]:
    yield "  features:"
    for feature in proposal.features:
        yield f"    # {comment(feature.remark)}"
        yield f"    {yaml_key(feature.name)}: {yaml_value(feature.keys)}"
    if proposal.left_out:
        yield "    # Left out; a line with the form of a feature can be put back as it stands."
    for one in proposal.left_out:
        yield from _left_out(one)


def _left_out(one: LeftOut) -> Iterator[str]:
    yield f"    # {comment(one.name)} {comment(one.reason)}."
    if one.feature is not None:
        yield f"    # {yaml_key(one.feature.name)}: {yaml_value(one.feature.keys)}"


def _target(proposal: Proposal) -> Iterator[str]:
    missing = proposal.target.column.missing_count
    yield "  target:"
    if missing:
        yield f"    # Missing in {missing:,} rows, which ingestion rejects."
    for key, value in proposal.target_keys.items():
        if key != "classes":
            yield f"    {key}: {yaml_value(value)}"
    counts = proposal.target.counts
    if counts:
        yield "    classes:"
    for one in proposal.target_keys.get("classes", []):
        rows = counts[one["value"]]
        share = 100 * rows / sum(counts.values())
        yield f"      - {yaml_value(one)}  # {rows:,} rows, {share:.3g} %"
