"""The release store, in a folder and on a real S3 server."""

from datetime import UTC, datetime

import fsspec
import pytest

from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.releases.manifest import Release, sha256_of
from mlops_for_mle.releases.store import MANIFEST_FILE, MODEL_FILE, ReleaseStore
from tests.releases import changed


def test_a_published_release_is_fetched_as_it_was_and_never_written_again(store, release):
    store.publish(release)

    assert store.fetch("iris", release.manifest.release) == release
    # The same run may be registered anew, after its registered model was deleted.
    store.publish(changed(release, created_at=datetime(2001, 1, 1, tzinfo=UTC)))
    assert store.fetch("iris", release.manifest.release) == release


def test_two_projects_that_share_a_store_do_not_take_each_others_release(store, release):
    store.publish(release)
    digest = {"model_sha256": sha256_of(b"another")}
    another = Release(manifest=release.manifest.model_copy(update=digest), model=b"another")

    for theirs in (changed(release, run_id="run1-of-another-project"), another):
        with pytest.raises(ReleaseError, match="of run run1: give this project a MLOPS_RELEASE"):
            store.publish(theirs)

    assert store.fetch("iris", release.manifest.release) == release


@pytest.mark.parametrize("name", [MODEL_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_a_damaged_release_is_refused_and_published_again(store, release, name, damage):
    store.publish(release)
    file_system, root = fsspec.core.url_to_fs(store.url)
    path = f"{root}/iris/{release.manifest.release}/{name}"
    if damage == "gone":
        file_system.rm_file(path)
    else:
        file_system.pipe_file(path, file_system.cat_file(path)[:-9])

    with pytest.raises(ReleaseError):
        store.fetch("iris", release.manifest.release)
    store.publish(release)
    assert store.fetch("iris", release.manifest.release) == release


def test_what_is_not_there_is_refused(store):
    with pytest.raises(ReleaseError, match=r"iris/nothing has no manifest\.json"):
        store.fetch("iris", "nothing")
    with pytest.raises(UserError, match=r"nope://.* cannot be read: Protocol not known"):
        ReleaseStore("nope://releases").fetch("iris", "iris-v1-00000000")
