"""What a flower may be, and what the API answers: Pydantic models."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Length = Annotated[float, Field(gt=0, le=30, description="centimetres")]
Tag = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,20}$")]
Species = Literal["setosa", "versicolor", "virginica"]


class NewFlower(BaseModel):
    """What a client sends to create a flower; a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")

    tag: Tag
    sepal_length: Length
    sepal_width: Length
    petal_length: Length
    petal_width: Length
    species: Species | None = None


class Correction(BaseModel):
    """What a client may change; what is not sent stays as it is."""

    model_config = ConfigDict(extra="forbid")

    tag: Tag | None = None
    sepal_length: Length | None = None
    sepal_width: Length | None = None
    petal_length: Length | None = None
    petal_width: Length | None = None
    species: Species | None = None


class Flower(NewFlower):
    """A flower as it is kept."""

    id: int
