"""Names that a table can have, for columns whose own name it cannot."""

from collections.abc import Sequence

from mlops_for_mle.contract.model import LONGEST_NAME, checked_name


def contract_names(names: Sequence[str]) -> dict[str, str]:
    """The contract's name for each column: its own wherever Postgres takes it.

    Args:
        names: Distinct names of the source.
    """
    found: dict[str, str] = {}
    taken = {name for name in names if _is_allowed(name)}
    for number, name in enumerate(names, start=1):
        if _is_allowed(name):
            found[name] = name
            continue
        base = _shortened(_cleaned(name)) or f"column_{number}"
        if not _is_allowed(base):
            base = _shortened(f"{base}_column")
        candidate, suffix = base, 2
        while candidate in taken:
            candidate = f"{_shortened(base, len(str(suffix)) + 1)}_{suffix}"
            suffix += 1
        taken.add(candidate)
        found[name] = candidate
    return found


def _is_allowed(name: str) -> bool:
    try:
        checked_name(name)
    except ValueError:
        return False
    # Legal in Postgres, but nobody could type or see it.
    return bool(name.strip())


def _cleaned(name: str) -> str:
    printable = "".join(one if one.isprintable() else " " for one in name)
    return " ".join(printable.split())


def _shortened(name: str, reserved: int = 0) -> str:
    """Cut to the bytes that Postgres keeps, never within a character."""
    kept = name.encode(errors="ignore")[: LONGEST_NAME - reserved]
    return kept.decode(errors="ignore").strip()
