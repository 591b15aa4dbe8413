"""The API: ``python app.py`` serves the champion until SIGTERM."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from champion import Champion


class Flower(BaseModel):
    """What a client sends; a field that is not known is refused."""

    # Step 3: four lengths, above 0 and at most 30.


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
        raise NotImplementedError("step 3: load() in a thread; keep the reason of a failure")

    def ready(self) -> Champion:
        """The champion.

        Raises:
            HTTPException: 503, there is none yet.
        """
        raise NotImplementedError("step 3: the champion, or HTTPException with the reason")


def create_app(folder: Path) -> FastAPI:
    """An application that serves the model of a folder, from the moment on that it is there."""
    # Step 3: a Serving, a lifespan that loads beside, and POST /predict.
    # Step 4: GET /health/live and GET /health/ready.
    return FastAPI(title="Iris")


def main() -> None:
    """Serve until SIGTERM; what is under way by then is answered, within ``GRACE_SECONDS``."""
    raise NotImplementedError("step 3: read MODELS, HOST, PORT; step 5: GRACE_SECONDS")


if __name__ == "__main__":
    main()
