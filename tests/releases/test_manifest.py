"""The manifest: what it holds survives JSON, and what contradicts itself is refused."""

import json
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.releases.manifest import Example, Manifest, Release, release_name

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    metrics=st.dictionaries(st.text(max_size=10), FINITE, max_size=4),
    rows=st.lists(st.tuples(FINITE, FINITE, FINITE, FINITE), min_size=1, max_size=4),
    created_at=st.datetimes(timezones=st.just(UTC)),
)
def test_a_manifest_survives_json(
    release: Release, metrics: dict[str, float], rows: list[Any], created_at: Any
) -> None:
    example = Example(rows=tuple(rows), predictions=(1.0,) * len(rows))
    changes = {"metrics": metrics, "example": example, "created_at": created_at}
    manifest = release.manifest.model_copy(update=changes)

    found = Manifest.model_validate_json(manifest.to_json())

    assert found == manifest
    assert found.to_json() == manifest.to_json()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 1}, "format"),
        ({"version": 0}, "version"),
        ({"model_bytes": 0}, "model_bytes"),
        ({"extra": 1}, "extra"),
        ({"example": {"rows": [], "predictions": []}}, "example.rows"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    release: Release, changes: dict[str, Any], reason: str
) -> None:
    raw = json.loads(release.manifest.to_json()) | changes

    with pytest.raises(ValidationError) as caught:
        Manifest.model_validate(raw)

    assert reason in str(caught.value)


def test_bytes_that_belong_to_another_manifest_are_refused(release: Release) -> None:
    assert Release.checked(release.manifest, release.model) == release
    with pytest.raises(ReleaseError, match=r"Release iris-v1-run1 was altered"):
        Release.checked(release.manifest, release.model + b"?")


def test_a_release_is_named_after_its_contract_version_and_run() -> None:
    assert release_name("iris", 12, "0123456789abcdef") == "iris-v12-01234567"
