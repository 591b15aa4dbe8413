"""A project with a registry, for the commands about it."""

from tests.candidates import good, poor, registry_project
from tests.end_to_end.conftest import project

__all__ = ["good", "poor", "project", "registry_project"]
