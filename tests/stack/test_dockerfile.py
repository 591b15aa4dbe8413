import re
import shutil
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests import PROJECT
from tests.expectations import succeed


def test_hadolint_has_nothing_to_say():
    of_the_course = PROJECT.glob("course/*/solution/*Dockerfile")
    assert succeed("hadolint", PROJECT / "Dockerfile", *of_the_course) == ""


def test_the_api_image_has_what_serving_imports_and_neither_kedro_nor_mlflow():
    """Here the packages of the pipelines are installed too, so that importing proves nothing."""
    lock = tomllib.loads((PROJECT / "uv.lock").read_text("utf-8"))
    packages = {package["name"]: package for package in lock["package"]}
    project = packages["mlops-for-mle"]
    waiting = [*project["dependencies"], *project["optional-dependencies"]["s3"]]
    found = {"mlops-for-mle"}
    while waiting:
        name = waiting.pop()["name"]
        if name not in found:
            found.add(name)
            waiting += packages[name].get("dependencies", [])
    assert {"fastapi", "onnxruntime", "s3fs"} <= found
    assert found.isdisjoint({"kedro", "mlflow", "pandas", "scikit-learn", "pyarrow"})

    others = [
        name
        for name, distributions in packages_distributions().items()
        if found.isdisjoint(re.sub(r"[._]", "-", one).lower() for one in distributions)
    ]
    succeed(sys.executable, "-c", WITHOUT, *others)


# A module that stands there as None cannot be imported.
WITHOUT = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
import mlops_for_mle.serving as serving
for module in pkgutil.walk_packages(serving.__path__, "mlops_for_mle.serving."):
    importlib.import_module(module.name)
"""


def test_shellcheck_has_nothing_to_say():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    files = [*PROJECT.glob("deploy/**/*"), *PROJECT.glob("scripts/*.sh")]
    plain = [
        path for path in files if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")
    ]
    assert len(plain) >= 6
    assert succeed("shellcheck", *plain) == ""
