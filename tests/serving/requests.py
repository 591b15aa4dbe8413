"""Asks an application without a server; the application is built once for its services."""

import asyncio
from typing import Any

import httpx
from starlette.types import ASGIApp

from mlops_for_mle.serving.app import create_app
from mlops_for_mle.serving.services import Services

_built: list[tuple[Services, ASGIApp]] = []


def call(services: Services, method: str, path: str, **options: Any) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(_application(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


def _application(services: Services) -> ASGIApp:
    if not _built or _built[-1][0] is not services:
        _built[:] = [(services, create_app(services.settings, services))]
    return _built[-1][1]
