from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.pipelines.deployment.nodes import build_release, plan_deployment
from mlops_for_mle.predictor import Predictor
from mlops_for_mle.records import ChampionBundle, ModelPassport, NothingToDeploy
from mlops_for_mle.release import Release


@pytest.fixture
def bundle(published: Release) -> ChampionBundle:
    manifest = published.manifest
    passport = ModelPassport(
        contract=manifest.contract,
        estimator=manifest.model.estimator,
        precision=manifest.model.precision,
        onnx_sha256=manifest.model_sha256,
        metrics=manifest.model.metrics,
        snapshot=manifest.snapshot,
        parity=manifest.parity,
        example=manifest.example,
    )
    return ChampionBundle("iris", 12, "run-12", 1_700_000_000_123, published.model, passport)


def test_a_champion_becomes_a_release_that_can_be_served(bundle: ChampionBundle) -> None:
    release = build_release(bundle)

    assert isinstance(release, Release)
    assert Predictor(release).manifest.model.version == 12
    assert release.manifest.release == f"iris-v12-{bundle.passport.onnx_sha256[:8]}"
    assert release.manifest.created_at == datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)
    assert release.manifest.model_bytes == len(bundle.onnx)
    assert release.manifest.model.has_probabilities


def test_the_same_champion_always_becomes_the_same_release(bundle: ChampionBundle) -> None:
    assert build_release(bundle) == build_release(replace(bundle))


def test_a_graph_that_is_not_the_one_that_was_exported_is_refused(bundle: ChampionBundle) -> None:
    altered = replace(bundle, onnx=bundle.onnx[:-1] + b"?")

    with pytest.raises(ReleaseError, match="Version 12 of iris: its ONNX graph has the digest"):
        build_release(altered)


def test_the_audit_trail_records_the_release_and_its_origin(bundle: ChampionBundle) -> None:
    release = build_release(bundle)
    assert isinstance(release, Release)

    assert plan_deployment(release.manifest).model_dump() == {
        "contract": "iris",
        "event": "deploy",
        "release": release.manifest.release,
        "model_version": 12,
        "run_id": "run-12",
        "reason": "champion",
    }


def test_where_there_is_no_champion_nothing_is_deployed() -> None:
    nothing = NothingToDeploy("every candidate was rejected")

    assert build_release(nothing) is nothing
    assert plan_deployment(nothing) is nothing
