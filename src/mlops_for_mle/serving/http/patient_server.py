"""uvicorn's server with patience for those who have connected just before its end."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import cast

import uvicorn


class PatientServer(uvicorn.Server):
    """Takes the connections that wait when it is told to end, instead of having them reset.

    For a server of one process: others that share the address go on accepting.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take what waits, refuse what comes later, and end as uvicorn does."""
        for listening in sockets or ():
            await self._take_waiting(listening)
        await super().shutdown(sockets)

    async def _take_waiting(self, listening: socket.socket) -> None:
        protocol = partial(
            cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        loop = asyncio.get_running_loop()
        for connection in _waiting(listening):
            await loop.connect_accepted_socket(protocol, connection)


def _waiting(listening: socket.socket) -> list[socket.socket]:
    """The connections that wait; afterwards the address refuses."""
    listening.setblocking(False)
    waiting = []
    with suppress(OSError):
        while True:
            waiting.append(listening.accept()[0])
    # What comes between this and the last look is reset, all later is refused.
    listening.shutdown(socket.SHUT_RDWR)
    return waiting
