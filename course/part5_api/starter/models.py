"""What a flower may be, and what the API answers: Pydantic models."""

from typing import Literal

from pydantic import BaseModel

Species = Literal["setosa", "versicolor", "virginica"]


class NewFlower(BaseModel):
    """What a client sends to create a flower; a field that is not known is refused."""

    # Step 1: tag, four lengths and species, with what each of them may be.


class Correction(BaseModel):
    """What a client may change; what is not sent stays as it is."""

    # Step 1: the same fields, all of them optional.


class Flower(NewFlower):
    """A flower as it is kept."""

    id: int
