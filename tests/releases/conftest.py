"""Releases of real models, and the stores in which they lie: a folder and a real S3 server."""

import secrets
from collections.abc import Iterator

import fsspec
import pytest

from mlops_for_mle.releases.manifest import Release
from mlops_for_mle.releases.store import ReleaseStore
from tests.releases import iris_release
from tests.servers import free_port, serve_s3


@pytest.fixture(scope="session")
def release() -> Release:
    return iris_release(1)


@pytest.fixture(scope="session")
def s3(tmp_path_factory) -> Iterator[str]:
    """A bucket that rclone serves by the protocol of S3."""
    secret, address = secrets.token_hex(8), f"127.0.0.1:{free_port()}"
    server = serve_s3(tmp_path_factory.mktemp("buckets"), address, f"key,{secret}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{address}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    server.terminate()
    server.wait(90)


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path) -> ReleaseStore:
    if request.param == "folder":
        return ReleaseStore(str(tmp_path / "releases"))
    return ReleaseStore(f"{request.getfixturevalue('s3')}/{secrets.token_hex(4)}")
