"""What the tests of scoring share."""

from tests.end_to_end.conftest import project

__all__ = ["project"]
