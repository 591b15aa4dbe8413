"""A project with a registry, for the commands about it."""

from tests.candidates import good, poor, registry_project

__all__ = ["good", "poor", "registry_project"]
