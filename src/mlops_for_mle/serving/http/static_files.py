"""Files of a page, read once: with their type, an ETag and a compressed form."""

import gzip
import hashlib
from functools import cached_property
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SMALLEST_COMPRESSED = 1024


class StaticFile:
    """One file."""

    def __init__(self, path: Path) -> None:
        """Read it."""
        self.content = path.read_bytes()
        self._type = _TYPES[path.suffix]
        self._tag = hashlib.sha256(self.content).hexdigest()[:20]

    def response(self, request: Request, headers: dict[str, str] | None = None) -> Response:
        """Answer a request for it: 304 when the client has it already."""
        found = {"ETag": f'"{self._tag}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        found |= headers or {}
        if self._tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=found)
        content = self.content
        if len(content) >= _SMALLEST_COMPRESSED and _takes_gzip(request):
            content = self._compressed
            found["Content-Encoding"] = "gzip"
        return Response(content, headers=found, media_type=self._type)

    @cached_property
    def _compressed(self) -> bytes:
        return gzip.compress(self.content, 6, mtime=0)


def read_folder(folder: Path) -> dict[str, StaticFile]:
    """The files of a folder by name."""
    return {path.name: StaticFile(path) for path in folder.iterdir() if path.suffix in _TYPES}


def _takes_gzip(request: Request) -> bool:
    parts = request.headers.get("accept-encoding", "").lower().split(",")
    return any(one.strip().split(";")[0] == "gzip" for one in parts)
