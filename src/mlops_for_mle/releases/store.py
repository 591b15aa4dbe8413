"""Where releases lie: ``<store>/<contract>/<release>/`` holds a model and its manifest.

The store is a folder or any URL that fsspec opens, such as ``s3://bucket/prefix``. The manifest is
written last, so a release that has one is complete, and it is never changed afterwards.
"""

from functools import cached_property

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from pydantic import ValidationError

from mlops_for_mle.errors import ReleaseError, UserError
from mlops_for_mle.releases.manifest import Manifest, Release

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"


class ReleaseStore:
    """The releases below one folder or bucket prefix."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    @cached_property
    def _files(self) -> DirFileSystem:
        file_system, root = fsspec.core.url_to_fs(self.url)
        # What a folder needs, and a bucket does not know.
        file_system.auto_mkdir = True
        return DirFileSystem(root, file_system)

    def publish(self, release: Release) -> None:
        """Write a release, unless it is there already, undamaged.

        Another release of this name is a ``ReleaseError``.
        """
        manifest = release.manifest
        contract, name = manifest.contract.name, manifest.release
        try:
            stored = self.fetch(contract, name).manifest
        except ReleaseError:
            document = manifest.model_dump_json(indent=2)
            self._files.pipe_file(f"{contract}/{name}/{MODEL_FILE}", release.model)
            self._files.pipe_file(f"{contract}/{name}/{MANIFEST_FILE}", document.encode())
            return
        if (stored.run_id, stored.model_sha256) != (manifest.run_id, manifest.model_sha256):
            raise ReleaseError(
                f"{self.url}/{contract}/{name} holds another release, of run {stored.run_id}: give "
                "this project a MLOPS_RELEASE_STORE of its own."
            )

    def manifest(self, contract: str, name: str) -> Manifest:
        """Read the manifest of a release, without its model.

        A release that is missing, incomplete or altered is a ``ReleaseError``; that the store does
        not answer is another ``UserError``, since the release may well be whole.
        """
        try:
            return Manifest.model_validate_json(self._read(contract, name, MANIFEST_FILE))
        except ValidationError as error:
            address = f"{self.url}/{contract}/{name}"
            raise ReleaseError(f"The manifest of {address} is not valid: {error}") from None

    def fetch(self, contract: str, name: str) -> Release:
        """Read a release and check its digest; raises as ``manifest`` does."""
        manifest = self.manifest(contract, name)
        return Release(manifest=manifest, model=self._read(contract, name, MODEL_FILE))

    def delete(self, contract: str, name: str) -> None:
        """Delete a release; its manifest goes first, so that an interrupted one is incomplete."""
        self._files.rm(f"{contract}/{name}/{MANIFEST_FILE}")
        self._files.rm(f"{contract}/{name}", recursive=True)

    def _read(self, contract: str, name: str, file: str) -> bytes:
        try:
            return bytes(self._files.cat_file(f"{contract}/{name}/{file}"))
        except FileNotFoundError:
            raise ReleaseError(f"{self.url}/{contract}/{name} has no {file}") from None
        except Exception as error:
            # Each kind of store has its own errors.
            raise UserError(f"{self.url}/{contract}/{name} cannot be read: {error}") from error
