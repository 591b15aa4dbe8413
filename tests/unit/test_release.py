import json
from datetime import UTC
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.release import (
    MANIFEST_FILE,
    MODEL_FILE,
    Example,
    Manifest,
    Release,
    ReleaseStore,
    release_name,
    sha256_of,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ReleaseStore:
    if request.param == "folder":
        return ReleaseStore(str(tmp_path / "releases"))
    return ReleaseStore(f"memory://{tmp_path.name}-{id(request)}/releases")


def changed(release: Release, **changes: Any) -> Release:
    manifest = Manifest.model_validate(release.manifest.model_dump() | changes)
    return Release(manifest=manifest, model=release.model)


def with_bytes(release: Release, model: bytes, name: str) -> Release:
    manifest = release.manifest.model_copy(
        update={"release": name, "model_sha256": sha256_of(model), "model_bytes": len(model)}
    )
    return Release(manifest=manifest, model=model)


def files_of(store: ReleaseStore, release: Release) -> tuple[Any, str]:
    manifest = release.manifest
    file_system, path = fsspec.core.url_to_fs(
        store.location(manifest.contract.name, manifest.release)
    )
    return file_system, str(path)


def test_a_published_release_is_fetched_as_it_was(store: ReleaseStore, published: Release) -> None:
    manifest = published.manifest

    assert not store.has("iris", manifest.release)
    assert store.publish(published)
    assert store.has("iris", manifest.release)
    assert store.fetch("iris", manifest.release) == published


def test_an_address_that_no_store_can_have_is_named_with_its_setting() -> None:
    with pytest.raises(ReleaseError, match="MLOPS_RELEASE_STORE: expected a folder or a URL"):
        ReleaseStore("nope://releases").has("iris", "iris-v1-00000000")


def test_a_published_release_is_never_changed(store: ReleaseStore, published: Release) -> None:
    store.publish(published)
    other = changed(published, parity={"point_count": 1, "largest_difference": 0.5})

    assert not store.publish(other)
    assert store.fetch("iris", published.manifest.release) == published


def test_nothing_but_the_two_files_is_left_in_a_release(
    store: ReleaseStore, published: Release
) -> None:
    store.publish(published)
    file_system, folder = files_of(store, published)

    names = {Path(path).name for path in file_system.ls(folder, detail=False)}

    assert names == {MODEL_FILE, MANIFEST_FILE}


@SHARED_FOLDER
@given(model=st.binary(min_size=1, max_size=300))
def test_any_bytes_survive_publishing(model: bytes, published: Release, tmp_path: Path) -> None:
    store = ReleaseStore(str(tmp_path))
    release = with_bytes(published, model, f"r-{sha256_of(model)[:16]}")

    store.publish(release)

    assert store.fetch("iris", release.manifest.release).model == model


@SHARED_FOLDER
@given(place=st.integers(min_value=0), change=st.integers(1, 255))
def test_one_altered_byte_is_refused(
    place: int, change: int, published: Release, tmp_path: Path
) -> None:
    store = ReleaseStore(str(tmp_path))
    store.publish(published)
    content = bytearray(published.model)
    content[place % len(content)] ^= change
    (tmp_path / "iris" / published.manifest.release / MODEL_FILE).write_bytes(content)

    with pytest.raises(ReleaseError, match="was altered"):
        store.fetch("iris", published.manifest.release)


def test_a_model_that_was_cut_short_is_refused(store: ReleaseStore, published: Release) -> None:
    store.publish(published)
    file_system, folder = files_of(store, published)
    file_system.pipe_file(f"{folder}/{MODEL_FILE}", published.model[:-1])

    with pytest.raises(ReleaseError, match="was altered"):
        store.fetch("iris", published.manifest.release)


@pytest.mark.parametrize("name", [MODEL_FILE, MANIFEST_FILE])
def test_a_release_without_one_of_its_files_is_told(
    store: ReleaseStore, published: Release, name: str
) -> None:
    store.publish(published)
    file_system, folder = files_of(store, published)
    file_system.rm_file(f"{folder}/{name}")

    with pytest.raises(ReleaseError, match=rf"iris/{published.manifest.release} has no {name}"):
        store.fetch("iris", published.manifest.release)


def test_a_release_without_manifest_is_not_there_and_can_be_published_again(
    store: ReleaseStore, published: Release
) -> None:
    store.publish(published)
    file_system, folder = files_of(store, published)
    file_system.rm_file(f"{folder}/{MANIFEST_FILE}")

    assert not store.has("iris", published.manifest.release)
    assert store.publish(published)
    assert store.fetch("iris", published.manifest.release) == published


def test_a_release_under_another_name_is_refused(store: ReleaseStore, published: Release) -> None:
    store.publish(published)
    file_system, folder = files_of(store, published)
    file_system.copy(folder, f"{folder}-copy", recursive=True)

    with pytest.raises(ReleaseError, match="holds the manifest of iris/"):
        store.fetch("iris", f"{published.manifest.release}-copy")


def test_a_release_that_never_was_is_told(store: ReleaseStore) -> None:
    with pytest.raises(ReleaseError, match=r"iris/nothing has no manifest\.json"):
        store.fetch("iris", "nothing")


@given(
    metrics=st.dictionaries(st.text(max_size=10), FINITE, max_size=4),
    rows=st.lists(st.tuples(FINITE, FINITE, FINITE, FINITE), min_size=1, max_size=4),
    created_at=st.datetimes(timezones=st.just(UTC)),
)
def test_a_manifest_survives_json(
    published: Release, metrics: dict[str, float], rows: list[Any], created_at: Any
) -> None:
    example = Example(rows=tuple(rows), predictions=(1.0,) * len(rows))
    manifest = published.manifest.model_copy(
        update={
            "model": published.manifest.model.model_copy(update={"metrics": metrics}),
            "example": example,
            "created_at": created_at,
        }
    )

    found = Manifest.from_json(manifest.to_json(), "here")

    assert found == manifest
    assert found.to_json() == manifest.to_json()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "invalid JSON"),
        (b"\xff\xfe{}", "invalid JSON"),
        (b"[]", "should be an object"),
        (b"{}", "release: is missing; created_at: is missing"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_place(raw: bytes, reason: str) -> None:
    with pytest.raises(ReleaseError, match=f"The manifest of the store is not valid: .*{reason}"):
        Manifest.from_json(raw, "the store")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format: input should be 1"),
        ({"model_bytes": 0}, "model_bytes: "),
        ({"extra": 1}, "extra: unknown key"),
        ({"example": {"rows": [], "predictions": []}}, "example.rows: "),
        ({"example": {"rows": [[1, 2]], "predictions": [0]}}, "one value for each feature"),
        ({"example": {"rows": [[1, 2, 3, 4]], "predictions": []}}, "one prediction"),
        (
            {"example": {"rows": [[1, 2, 3, 4]], "predictions": [0], "probabilities": [[1]]}},
            "one probability for each class",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    published: Release, changes: dict[str, Any], reason: str
) -> None:
    raw = json.loads(published.manifest.to_json()) | changes

    with pytest.raises(ReleaseError) as caught:
        Manifest.from_json(json.dumps(raw), "the store")

    assert reason in str(caught.value)


def test_a_release_is_named_after_its_contract_version_and_content() -> None:
    assert release_name("iris", 12, "0123456789abcdef") == "iris-v12-01234567"


def test_the_bytes_of_a_model_are_not_printed(published: Release) -> None:
    assert len(repr(published)) < 10_000
    assert "model=b" not in repr(published)
