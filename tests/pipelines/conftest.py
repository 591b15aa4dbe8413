"""Projects with a registry, for the pipelines that begin with a candidate."""

from tests.candidates import good, poor, registry_project

__all__ = ["good", "poor", "registry_project"]
