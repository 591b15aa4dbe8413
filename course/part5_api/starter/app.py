"""The API: ``uvicorn app:create_app --factory``."""

from fastapi import FastAPI


def create_app() -> FastAPI:
    """An application with an empty store, so that no test sees the flowers of another."""
    app = FastAPI(title="Flowers")

    @app.get("/health")
    def health() -> dict[str, str]:
        raise NotImplementedError("step 3: say that it lives")

    # Step 3: a FlowerStore, POST /flowers, GET /flowers/{number}. Steps 4 and 5: the others.
    return app
