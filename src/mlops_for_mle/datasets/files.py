"""Opens files that a person names, wherever fsspec can, and says what is wrong with one."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from lzma import LZMAError
from typing import Any
from zipfile import BadZipFile

import fsspec

from mlops_for_mle.errors import SourceError
from mlops_for_mle.foreign_errors import usable


@contextmanager
def opened(where: str, kind: str, compression: str | None = None) -> Iterator[Any]:
    """Open a file wherever fsspec can.

    Raises:
        SourceError: It cannot be opened or read; says why.
        UserError: The place cannot be used, for lack of a package or because there is none.
    """
    with usable(where):
        file = fsspec.open(where, "rb", compression=compression)
    try:
        with file as content:
            yield content
    except FileNotFoundError:
        raise SourceError(f"{where}: there is no such file") from None
    except IsADirectoryError:
        raise SourceError(f"{where}: is a folder, expected a {kind} file") from None
    except PermissionError:
        raise SourceError(f"{where}: this user may not read it") from None
    except (BadGzipFile, BadZipFile, EOFError, LZMAError, zlib.error) as error:
        raise SourceError(f"{where}: cannot be unpacked: {error}") from None
    except OSError as error:
        raise SourceError(f"{where}: cannot be read: {error.strerror or error}") from None
