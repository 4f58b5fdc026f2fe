"""Chooses how a guest's device is shown: CUSE, else a FUSE directory, else a socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cusetpm.devices.cuse.device import CuseDevice
from cusetpm.devices.fusedir import FuseDirectory
from cusetpm.transport import Transport

_ORDER = ("cuse", "fuse", "socket")


class FrontEnd(NamedTuple):
    """A front end that serves: its device file, if it has one, and why it was taken."""

    kind: str
    device: str | None
    why: str


@contextmanager
def choose(kind: str, transport: Transport, home: Path, socket_path: str) -> Iterator[FrontEnd]:
    """Serve *transport* by front end *kind* ("auto" takes the first of cuse, fuse, socket that works).

    A FUSE directory is mounted at *home*/dev.  *socket_path* is where the raw socket is served already, which
    is all that "socket" needs.  Raises OSError when the kind asked for cannot be had.
    """
    refused: list[str] = []
    for candidate in _ORDER if kind == "auto" else (kind,):
        if candidate == "socket":
            yield FrontEnd("socket", None, _why(f"socket {socket_path}", refused))
            return
        served = CuseDevice(None, transport) if candidate == "cuse" else _fuse(home, transport)
        try:
            served.start()
        except OSError as error:
            if kind != "auto":
                raise
            refused.append(": ".join(filter(None, (candidate, error.filename, error.strerror))))
            continue
        path = served.path if isinstance(served, CuseDevice) else str(home / "dev" / "tpm0")
        try:
            yield FrontEnd(candidate, path, _why(f"{candidate} {path}", refused))
        finally:
            served.stop()
        return


def _fuse(home: Path, transport: Transport) -> FuseDirectory:
    (home / "dev").mkdir(mode=0o700, exist_ok=True)
    return FuseDirectory(home / "dev", {"tpm0": transport})


def _why(taken: str, refused: list[str]) -> str:
    return f"{taken} ({'; '.join(refused)})" if refused else taken
