"""Keeps the served release on local disk, for a start without database and release store."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from pydantic import ValidationError

from mlops_for_mle.errors import ReleaseError
from mlops_for_mle.release import MANIFEST_FILE, Release, ReleaseStore
from mlops_for_mle.serving.releases.served_release import FollowedDeployment

_POINTER = "current.json"
_KEPT = 5


class ReleaseCache:
    """A release store in a local folder, with a pointer to the deployment that was served last."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made when something is kept."""
        self._folder = folder
        self._store = ReleaseStore(str(folder))

    def contracts(self) -> list[str]:
        """The contracts of which a release is kept."""
        return sorted(path.parent.name for path in self._folder.glob(f"*/{_POINTER}"))

    def last_served(self, contract: str) -> tuple[Release, FollowedDeployment] | None:
        """The release that was served last; None when nothing is kept.

        Raises:
            ReleaseError: What is kept is not complete or was altered.
        """
        pointer = self._folder / contract / _POINTER
        try:
            raw = pointer.read_bytes()
        except FileNotFoundError:
            return None
        try:
            deployment = FollowedDeployment.model_validate_json(raw)
        except ValidationError:
            raise ReleaseError(f"{pointer} is not valid") from None
        return self._store.fetch(contract, deployment.release), deployment

    def release(self, deployment: FollowedDeployment) -> Release:
        """The kept copy of a release.

        Raises:
            ReleaseError: There is none, or it was altered.
        """
        return self._store.fetch(deployment.contract, deployment.release)

    def keep(self, release: Release, deployment: FollowedDeployment) -> None:
        """Keep a release that has just been put into service; older ones are deleted in time."""
        folder = self._folder / deployment.contract
        copy = folder / deployment.release
        with suppress(FileNotFoundError):
            if (copy / MANIFEST_FILE).read_text("utf-8") != release.manifest.to_json():
                shutil.rmtree(copy, ignore_errors=True)
        if not self._store.publish(release):
            os.utime(copy)
        partial = folder / f"{_POINTER}.{uuid4().hex}"
        partial.write_text(deployment.model_dump_json(), "utf-8")
        partial.replace(folder / _POINTER)
        kept = sorted(
            (path for path in folder.iterdir() if path.is_dir()),
            key=lambda path: path.stat().st_mtime,
            reverse=True,
        )
        for path in kept[_KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
