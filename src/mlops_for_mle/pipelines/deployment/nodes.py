"""Pure functions of deployment: what is to be served answers as it was trained, twice."""

from collections.abc import Callable

import pandas as pd

from mlops_for_mle.releases.manifest import Manifest, Release
from mlops_for_mle.releases.predictor import load

Released = tuple[Manifest, int]
"""A release, and the number of the newest deployment when it was chosen."""


def release_champion(
    deployments: pd.DataFrame, champion: Release | tuple[()] | None
) -> tuple[list[Release], list[Released]]:
    """The release to publish, and what is known of it: those of the champion, if there is one."""
    if not champion:
        return [], []
    load(champion)
    of_contract = deployments[deployments["contract"] == champion.manifest.contract.name]
    return [champion], [(champion.manifest, max(of_contract["id"], default=0))]


def verify_release(
    released: list[Released], fetch: Callable[[str, str], Release]
) -> list[Released]:
    """Check that a release, as the store gives it, answers its example, before it is served."""
    for manifest, _ in released:
        load(fetch(manifest.contract.name, manifest.release))
    return released
