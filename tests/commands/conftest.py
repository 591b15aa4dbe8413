"""What the pipelines' tests share, for the commands about it."""

from tests.pipelines.conftest import good, poor, project, registry_project

__all__ = ["good", "poor", "project", "registry_project"]
