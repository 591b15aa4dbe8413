"""Projects for the pages of the course, as the end-to-end tests have them."""

from tests.end_to_end.conftest import project

__all__ = ["project"]
