import pytest

from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.release import MODEL_FILE, Release
from mlops_for_mle.serving.releases.release_cache import ReleaseCache
from tests.releases import iris_release
from tests.serving.conftest import deployment_of


def test_what_was_served_last_is_found_again(tmp_path, iris: Release, iris_second: Release):
    cache = ReleaseCache(tmp_path)
    cache.keep(iris, deployment_of(iris, 1))
    cache.keep(iris_second, deployment_of(iris_second, 2))
    cache.keep(iris, deployment_of(iris, 3))

    assert ReleaseCache(tmp_path).contracts() == ["iris"]
    assert ReleaseCache(tmp_path).last_served("iris") == (iris, deployment_of(iris, 3))


def test_an_empty_cache_gives_nothing(tmp_path):
    cache = ReleaseCache(tmp_path / "missing")

    assert cache.contracts() == []
    assert cache.last_served("iris") is None


def test_an_altered_copy_is_not_given_out(tmp_path, iris: Release):
    cache = ReleaseCache(tmp_path)
    cache.keep(iris, deployment_of(iris))
    (tmp_path / "iris" / iris.manifest.release / MODEL_FILE).write_bytes(b"altered")

    with pytest.raises(ReleaseError, match="was altered"):
        cache.last_served("iris")


def test_a_release_of_the_same_name_with_other_facts_replaces_the_copy(tmp_path, iris: Release):
    cache = ReleaseCache(tmp_path)
    cache.keep(iris, deployment_of(iris))
    facts = iris.manifest.model.model_copy(update={"run_id": "another"})
    other = Release(manifest=iris.manifest.model_copy(update={"model": facts}), model=iris.model)

    cache.keep(other, deployment_of(other))

    found = cache.last_served("iris")
    assert found is not None
    assert found[0].manifest.model.run_id == "another"


def test_only_the_newest_copies_stay(tmp_path):
    cache = ReleaseCache(tmp_path)
    releases = [iris_release(version) for version in range(1, 8)]
    for number, release in enumerate(releases, 1):
        cache.keep(release, deployment_of(release, number))

    kept = {path.name for path in (tmp_path / "iris").iterdir() if path.is_dir()}

    assert len(kept) == 5
    assert releases[-1].manifest.release in kept
