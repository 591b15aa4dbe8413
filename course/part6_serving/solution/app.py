"""The API: ``python app.py`` serves the champion until SIGTERM."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, HTTPException, status
from pydantic import BaseModel, ConfigDict, Field

from champion import Champion, ModelError, load, predict

Length = Annotated[float, Field(gt=0, le=30, description="centimetres")]


class Flower(BaseModel):
    """What a client sends; a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")

    sepal_length: Length
    sepal_width: Length
    petal_length: Length
    petal_width: Length


class Answer(BaseModel):
    """The species, and the version of the model that says so."""

    species: str
    version: str


@dataclass
class Serving:
    """A champion, or the reason why there is none yet."""

    champion: Champion | None = None
    obstacle: str = "the model is being loaded"

    async def load_when_there(self, folder: Path) -> None:
        """Try once a second, until there is a champion that answers."""
        while self.champion is None:
            try:
                self.champion = await asyncio.to_thread(load, folder)
            except ModelError as error:
                self.obstacle = str(error)
                await asyncio.sleep(1)

    def ready(self) -> Champion:
        """The champion.

        Raises:
            HTTPException: 503, there is none yet.
        """
        if self.champion is None:
            later = {"Retry-After": "1"}
            raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, self.obstacle, later)
        return self.champion


def create_app(folder: Path) -> FastAPI:
    """An application that serves the model of a folder, from the moment on that it is there."""
    serving = Serving()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(serving.load_when_there(folder))
        yield
        loading.cancel()

    app = FastAPI(title="Iris", lifespan=lifespan)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ready", "version": serving.ready().version}

    @app.post("/predict")
    def answer(flower: Flower) -> Answer:
        champion = serving.ready()
        return Answer(species=predict(champion, [flower.model_dump()])[0], version=champion.version)

    return app


def main() -> None:
    """Serve until SIGTERM; what is under way by then is answered, within ``GRACE_SECONDS``."""
    folder = Path(os.environ.get("MODELS", "models"), os.environ.get("MODEL_ALIAS", "champion"))
    uvicorn.run(
        create_app(folder),
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ.get("PORT", "8000")),
        timeout_graceful_shutdown=int(os.environ.get("GRACE_SECONDS", "10")),
    )


if __name__ == "__main__":
    main()
