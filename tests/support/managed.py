"""A TPM with a resource manager in front, and clients of its spaces and of the TPM as it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import cast

from cusetpm.rm.manager import ResourceManager
from cusetpm.rm.space import ManagedSpace
from cusetpm.transport import Cancelled
from hwtpm.client import Client
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.types.constants import TPM_CAP_HANDLES
from hwtpm.tpm2.types.handles import LOADED_SESSION_FIRST, POLICY_SESSION_FIRST, TRANSIENT_FIRST

LISTS = {"objects": TRANSIENT_FIRST, "loaded": LOADED_SESSION_FIRST, "saved": POLICY_SESSION_FIRST}


class Wire:
    """A transport to *execute* that counts what crosses it, and may be told what to do meanwhile."""

    def __init__(self, execute: Callable[[bytes], bytes]) -> None:
        self._execute = execute
        self.commands: list[int] = []
        self.meanwhile: Callable[[], None] | None = None

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        self.commands.append(int.from_bytes(command[6:10], "big"))
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self._execute(command)

    def cancel(self) -> None: ...

    def takes_long(self, command: bytes) -> bool:
        return False


class User(Client):
    """A client of a space, or of the TPM as it is."""

    def __init__(self, way: ManagedSpace | ResourceManager, number: int) -> None:
        super().__init__(way.execute, CtrDrbg(b"nonces of user %d" % number).generate)
        self.way = way

    def list(self, kind: str) -> list[int]:
        """Return the handles of "objects", or of "loaded" or "saved" sessions, that this user sees."""
        asked = GetCapability(TPM_CAP_HANDLES, LISTS[kind], 254)
        return cast("list[int]", self.run(asked).capability_data.data)

    def close(self) -> None:
        assert isinstance(self.way, ManagedSpace)
        self.way.close()


class Managed:
    """A TPM that *execute* leads to, with a resource manager; `raw` is the user of the TPM as it is."""

    def __init__(self, execute: Callable[[bytes], bytes]) -> None:
        self.wire = Wire(execute)
        self.manager = ResourceManager(self.wire)
        self._numbers = itertools.count()
        self.raw = User(self.manager, next(self._numbers))

    def open(self) -> User:
        """Return a user with a new space."""
        return User(self.manager.open(), next(self._numbers))
