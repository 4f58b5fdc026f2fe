"""Our TPM 1.2 and swtpm side by side: the same requests to both, the answers compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hwtpm.client12 import Client, Session
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.errors import TpmError
from hwtpm.tpm12.requests.command import Command
from tests.support.swtpm import Swtpm
from tests.support.tpm12 import Machine, started


class Pair:
    """`machine` is ours, `swtpm` theirs, both new, enabled, activated and started."""

    def __init__(self, swtpm: Swtpm) -> None:
        self.machine: Machine = started()
        self.swtpm = swtpm
        self.clients = self.machine.client, Client(swtpm.execute, CtrDrbg(b"nonces for swtpm").generate)

    def outcomes(self, request: Command[Any], *sessions: Callable[[Client], Session]) -> list[object]:
        """Return what ours and theirs answer: a response, or the number of an error."""
        found: list[object] = []
        for client in self.clients:
            try:
                found.append(client.run(request, *(session(client) for session in sessions)))
            except TpmError as error:
                found.append(error.rc)
        return found

    def agree(self, request: Command[Any], *sessions: Callable[[Client], Session]) -> None:
        """Both give the same answer."""
        ours, theirs = self.outcomes(request, *sessions)
        assert ours == theirs, f"{request}: ours {ours}, swtpm's {theirs}"

    def set_locality(self, locality: int) -> None:
        """Commands come from *locality* from now on."""
        self.machine.locality = locality
        self.swtpm.set_locality(locality)

    def power_cycle(self) -> None:
        """Both lose power and get it back; no Startup is done."""
        self.machine.power_cycle()
        self.swtpm.power_cycle()


@contextmanager
def pair() -> Iterator[Pair]:
    """Give a pair; skips the test where swtpm is not installed."""
    with Swtpm(family="1.2") as swtpm:
        yield Pair(swtpm)
