"""What the tests of ingestion share."""

from tests.end_to_end.conftest import project

__all__ = ["project"]
