"""A real PostgreSQL 18 for every process of the project: nothing to install, nothing left behind.

`acquire` starts the server of a home directory, or joins the running one, and holds a lease on it
until this process ends, however it ends. A small guard process stops the server when the last lease
is gone. `guard` describes the locks behind it, `placement` where the cluster lies and who runs it.

A process replaced by `exec` loses its lease; the new program has to call `acquire` itself. A forked
child shares its parent's lease and keeps it alive.
"""

from mlops_for_mle.embedded_postgres.lease import (
    Status,
    acquire,
    destroy,
    keep_running,
    status,
    stop,
)
from mlops_for_mle.embedded_postgres.placement import EmbeddedPostgresError, binary
from mlops_for_mle.embedded_postgres.server import Server

__all__ = [
    "EmbeddedPostgresError",
    "Server",
    "Status",
    "acquire",
    "binary",
    "destroy",
    "keep_running",
    "status",
    "stop",
]
