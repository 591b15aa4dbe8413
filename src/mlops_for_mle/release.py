"""Releases: immutable folders with a verified model and a manifest that says all about it.

A release store is a folder that fsspec can open: a local path or ``s3://bucket/prefix``. A
release stands in ``<store>/<contract>/<release>/``; its manifest is written last, so a release
that has a manifest is complete.
"""

import hashlib
import json
import os
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Self
from uuid import uuid4

import fsspec
from pydantic import Field, ValidationError, model_validator

from mlops_for_mle.configuration import explain_errors
from mlops_for_mle.contract import Configuration, Contract
from mlops_for_mle.errors import ReleaseError

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"

Precision = Literal["float32", "float64"]
PlainValue = bool | int | float | str | None


class ModelFacts(Configuration):
    """Where the model of a release comes from and how it is called.

    Attributes:
        name: The registered model.
        version: Its version in the registry.
        run_id: The MLflow run that trained it.
        estimator: The class of the estimator, for people.
        precision: The element type of the model's one input, a matrix of rows by encoded columns.
        has_probabilities: Whether the model has a second output, rows by classes.
        metrics: The metrics that were recorded when it was trained.
    """

    name: str
    version: int = Field(ge=1)
    run_id: str
    estimator: str
    precision: Precision
    has_probabilities: bool
    metrics: dict[str, float]


class SnapshotFacts(Configuration):
    """The rows that the model was trained and validated on.

    Attributes:
        source: The table or file that they were read from.
        sha256: Digest of their content, see ``frames.digest``.
        watermark: The largest key among them; None for a file.
        row_count: How many they are.
    """

    source: str
    sha256: str
    watermark: int | None
    row_count: int = Field(ge=1)


class Parity(Configuration):
    """How the served model compared with the trained one before it was released.

    Attributes:
        point_count: On how many rows they were compared.
        largest_difference: The largest absolute difference of probabilities or numbers.
    """

    point_count: int
    largest_difference: float


class Example(Configuration):
    """Rows with the answers that the trained model gave; a loaded release must repeat them.

    Attributes:
        rows: One list of plain values a row, in the order of the contract's features; None where
            a value is missing, dates and times as ISO 8601.
        predictions: One class code or number a row.
        probabilities: One list a row, in the order of the contract's classes, or None.
    """

    rows: tuple[tuple[PlainValue, ...], ...] = Field(min_length=1)
    predictions: tuple[float, ...]
    probabilities: tuple[tuple[float, ...], ...] | None = None


class Manifest(Configuration):
    """Everything that a server needs to know of a release beside the model's bytes."""

    format: Literal[1] = 1
    release: str
    created_at: datetime
    contract: Contract
    model: ModelFacts
    snapshot: SnapshotFacts
    parity: Parity
    example: Example
    model_sha256: str
    model_bytes: int = Field(ge=1)

    @model_validator(mode="after")
    def _example_fits_the_contract(self) -> Self:
        example, target = self.example, self.contract.target
        answers = [example.predictions, *filter(None, [example.probabilities])]
        if any(len(answer) != len(example.rows) for answer in answers):
            raise ValueError("the example needs one prediction and one list of probabilities a row")
        if {len(row) for row in example.rows} != {len(self.contract.features)}:
            raise ValueError("each row of the example needs one value for each feature")
        if {len(row) for row in example.probabilities or ()} - {len(target.classes)}:
            raise ValueError("the example needs one probability for each class")
        return self

    @classmethod
    def from_json(cls, raw: bytes | str, where: str) -> Self:
        """Read a manifest.

        Raises:
            ReleaseError: It is no JSON or not of this form; the message says where and what.
        """
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            reasons = "; ".join(explain_errors(error, "", cls))
            raise ReleaseError(f"The manifest of {where} is not valid: {reasons}") from None

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


class Release(Configuration):
    """A manifest together with the model's bytes, whose digest was checked."""

    manifest: Manifest
    model: bytes = Field(repr=False)

    @classmethod
    def checked(cls, manifest: Manifest, model: bytes) -> Self:
        """Join the two.

        Raises:
            ReleaseError: The bytes are not those that the manifest was written for.
        """
        found = sha256_of(model)
        if found != manifest.model_sha256:
            raise ReleaseError(
                f"Release {manifest.release} was altered: {MODEL_FILE} has the digest "
                f"{found[:12]}…, its manifest says {manifest.model_sha256[:12]}…"
            )
        return cls(manifest=manifest, model=model)


class ReleaseStore:
    """Reads and writes the releases below one folder or bucket prefix."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        """Name the store.

        Args:
            url: A local folder or any URL that fsspec opens, such as ``s3://bucket/releases``.
            options: Passed to the file system of fsspec.
        """
        self.url = url.rstrip("/")
        self._options = options or {}

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        try:
            file_system, root = fsspec.core.url_to_fs(self.url, **self._options)
        except (ImportError, ValueError) as error:
            raise ReleaseError(
                f"MLOPS_RELEASE_STORE: expected a folder or a URL such as s3://bucket/prefix "
                f"(found {self.url!r}: {error})"
            ) from None
        return file_system, str(root).rstrip("/")

    def location(self, contract: str, release: str) -> str:
        """Where a release stands, for people."""
        return f"{self.url}/{contract}/{release}"

    def has(self, contract: str, release: str) -> bool:
        """Whether the release is there and complete."""
        file_system, root = self._opened
        return bool(file_system.exists(f"{root}/{contract}/{release}/{MANIFEST_FILE}"))

    def publish(self, release: Release) -> bool:
        """Write a release unless it is there already; it is never changed afterwards.

        Returns:
            Whether it was written.
        """
        manifest = release.manifest
        if self.has(manifest.contract.name, manifest.release):
            return False
        file_system, root = self._opened
        folder = f"{root}/{manifest.contract.name}/{manifest.release}"
        file_system.makedirs(folder, exist_ok=True)
        self._write(f"{folder}/{MODEL_FILE}", release.model)
        self._write(f"{folder}/{MANIFEST_FILE}", manifest.to_json().encode())
        return True

    def fetch(self, contract: str, release: str) -> Release:
        """Read a release and check its digest.

        Raises:
            ReleaseError: It is not there, incomplete or altered.
        """
        where = self.location(contract, release)
        manifest = Manifest.from_json(self._read(where, contract, release, MANIFEST_FILE), where)
        if (manifest.release, manifest.contract.name) != (release, contract):
            raise ReleaseError(
                f"{where} holds the manifest of {manifest.contract.name}/{manifest.release}"
            )
        return Release.checked(manifest, self._read(where, contract, release, MODEL_FILE))

    def _read(self, where: str, contract: str, release: str, name: str) -> bytes:
        file_system, root = self._opened
        try:
            return bytes(file_system.cat_file(f"{root}/{contract}/{release}/{name}"))
        except FileNotFoundError:
            raise ReleaseError(f"{where} has no {name}") from None

    def _write(self, path: str, content: bytes) -> None:
        file_system, _ = self._opened
        if "file" not in _protocols(file_system):
            file_system.pipe_file(path, content)
            return
        partial = f"{path}.{uuid4().hex}"
        with open(partial, "wb") as file:  # noqa: PTH123  (fsspec gives paths as text)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)  # noqa: PTH105  (fsspec gives paths as text)


def sha256_of(content: bytes) -> str:
    """The digest of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def release_name(contract: str, version: int, model_sha256: str) -> str:
    """The name of a release: the same model version always gives the same one."""
    return f"{contract}-v{version}-{model_sha256[:8]}"


def _protocols(file_system: Any) -> tuple[str, ...]:
    protocol = file_system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
