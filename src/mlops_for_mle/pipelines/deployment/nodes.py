"""Pure functions of deployment: the champion's files in, a release and its deployment out."""

from datetime import UTC, datetime

from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.records import ChampionBundle, Deployment, NothingToDeploy
from mlops_for_mle.release import Manifest, ModelFacts, Release, release_name, sha256_of


def build_release(bundle: ChampionBundle | NothingToDeploy) -> Release | NothingToDeploy:
    """Put the champion's graph and a manifest together, after checking the graph's digest.

    Raises:
        ReleaseError: The registry's graph is not the one that training exported.
    """
    if isinstance(bundle, NothingToDeploy):
        return bundle
    passport = bundle.passport
    found = sha256_of(bundle.onnx)
    if found != passport.onnx_sha256:
        raise ReleaseError(
            f"Version {bundle.version} of {bundle.name}: its ONNX graph has the digest "
            f"{found[:12]}…, training recorded {passport.onnx_sha256[:12]}…; it was altered."
        )
    manifest = Manifest(
        release=release_name(passport.contract.name, bundle.version, found),
        created_at=datetime.fromtimestamp(bundle.registered_at / 1000, tz=UTC),
        contract=passport.contract,
        model=ModelFacts(
            name=bundle.name,
            version=bundle.version,
            run_id=bundle.run_id,
            estimator=passport.estimator,
            precision=passport.precision,
            has_probabilities=passport.example.probabilities is not None,
            metrics=passport.metrics,
        ),
        snapshot=passport.snapshot,
        parity=passport.parity,
        example=passport.example,
        model_sha256=found,
        model_bytes=len(bundle.onnx),
    )
    return Release.checked(manifest, bundle.onnx)


def plan_deployment(
    manifest: Manifest | NothingToDeploy,
) -> Deployment | NothingToDeploy:
    """Say what the audit trail is to record, once the release is in the store and verified."""
    if isinstance(manifest, NothingToDeploy):
        return manifest
    return Deployment(
        contract=manifest.contract.name,
        event="deploy",
        release=manifest.release,
        model_version=manifest.model.version,
        run_id=manifest.model.run_id,
        reason="champion",
    )
