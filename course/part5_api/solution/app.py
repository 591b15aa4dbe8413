"""The API: ``uvicorn app:create_app --factory``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response, status
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from models import Correction, Flower, NewFlower, Species
from store import FlowerStore, NoFlowerError, TagTakenError


@contextmanager
def answered_as_http() -> Iterator[None]:
    """Turn what the store raises into answers."""
    try:
        yield
    except NoFlowerError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from None
    except TagTakenError as error:
        raise HTTPException(status.HTTP_409_CONFLICT, str(error)) from None
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def create_app() -> FastAPI:
    """An application with an empty store, so that no test sees the flowers of another."""
    app = FastAPI(title="Flowers")
    store = FlowerStore()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/flowers", status_code=status.HTTP_201_CREATED)
    def create(new: NewFlower, response: Response) -> Flower:
        with answered_as_http():
            flower = store.add(new)
        response.headers["Location"] = f"/flowers/{flower.id}"
        return flower

    @app.get("/flowers")
    def find(
        species: Species | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[int, Query(ge=0)] = 0,
    ) -> list[Flower]:
        return store.find(species, limit, after)

    @app.get("/flowers/{number}")
    def read(number: int) -> Flower:
        with answered_as_http():
            return store.get(number)

    @app.patch("/flowers/{number}")
    def correct(number: int, correction: Correction) -> Flower:
        with answered_as_http():
            return store.correct(number, correction)

    @app.delete("/flowers/{number}", status_code=status.HTTP_204_NO_CONTENT)
    def remove(number: int) -> None:
        with answered_as_http():
            store.remove(number)

    return app
