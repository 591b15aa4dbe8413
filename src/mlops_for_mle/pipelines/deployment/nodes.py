"""Pure functions of deployment: what is to be served answers as it was trained, twice."""

from collections.abc import Callable

from mlops_for_mle.releases.manifest import Champion, Release
from mlops_for_mle.releases.predictor import load_predictor


def release_champion(
    champion: Champion | tuple[()] | None,
) -> tuple[list[Champion], list[Champion]]:
    """What to publish, and what to have served: the champion, if there is one."""
    if not champion:
        return [], []
    load_predictor(champion)
    return [champion], [champion]


def verify_release(
    released: list[Champion], fetch: Callable[[str, str], Release]
) -> list[Champion]:
    """Check that a release, as the store gives it, answers its example, before it is served."""
    for champion in released:
        load_predictor(fetch(champion.manifest.contract.name, champion.manifest.release))
    return released
