"""Projects with a registry or an embedded server of their own, for the pipelines."""

from tests.candidates import good, poor, registry_project
from tests.end_to_end.conftest import project

__all__ = ["good", "poor", "project", "registry_project"]
