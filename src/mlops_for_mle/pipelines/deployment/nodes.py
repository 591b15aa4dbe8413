"""Pure functions of deployment: what is to be served answers as it was trained, twice."""

from collections.abc import Callable

from mlops_for_mle.releases.manifest import Manifest, Release
from mlops_for_mle.releases.predictor import load


def release_champion(champion: Release | tuple[()] | None) -> tuple[list[Release], list[Manifest]]:
    """The release to publish, and its manifest: those of the champion, if there is one."""
    if not champion:
        return [], []
    load(champion)
    return [champion], [champion.manifest]


def verify_release(
    released: list[Manifest], fetch: Callable[[str, str], Release]
) -> list[Manifest]:
    """Check that a release, as the store gives it, answers its example, before it is served."""
    stored = [fetch(manifest.contract.name, manifest.release) for manifest in released]
    for release in stored:
        load(release)
    return [release.manifest for release in stored]
