"""The same test against our TPM and against swtpm: what passes on both is how TPMs behave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hwtpm.client import Authorization, Client, Execute, Password
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.tpm2.requests.nv import NVDefineSpace, NVReadPublic, NVWrite
from hwtpm.tpm2.types.attributes import TPMA_NV_AUTHREAD, TPMA_NV_AUTHWRITE, TPMA_NV_NO_DA
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_RC_RETRY
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from tests.support.swtpm import Swtpm
from tests.support.tpm2 import started

_RETRY = TPM_RC_RETRY.to_bytes(4, "big")
EITHER = ("ours", "swtpm")
AUTH_INDEX = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE | TPMA_NV_NO_DA
DA_INDEX = TPMA_NV_AUTHREAD | TPMA_NV_AUTHWRITE
INDEX = 0x01500001


class Recording:
    """Hands commands on, as `change` says, and keeps the last one."""

    def __init__(self, client: Client) -> None:
        self._execute = client._execute
        self.command = b""
        self.change: Callable[[bytes], bytes] = bytes
        client._execute = self

    def __call__(self, command: bytes, /) -> bytes:
        self.command = self.change(command)
        return self._execute(self.command)

    def raw(self, command: bytes) -> int:
        """Send octets; return the response code."""
        return int.from_bytes(self._execute(command)[6:10], "big")


@contextmanager
def either(name: str) -> Iterator[Client]:
    """Give a client of the TPM *name*, one of EITHER, after Startup(CLEAR)."""
    if name == "ours":
        yield started().client
    else:
        with Swtpm() as other:
            yield Client(retrying(other.execute), CtrDrbg(b"nonces").generate)


def retrying(execute: Callable[[bytes], bytes]) -> Execute:
    """Return *execute* of swtpm that sends a command again when libtpms asks for that.

    It does so at the first use of a protected authValue, after it has made a note in NV.
    """

    def again(command: bytes, /) -> bytes:
        response = execute(command)
        return execute(command) if response[6:10] == _RETRY else response

    return again


def define(client: Client, auth: bytes = b"", attributes: int = AUTH_INDEX, *, policy: bytes = b"",
           handle: int = INDEX, size: int = 16, owner: Authorization | None = None) -> int:
    """Define an NV Index and return its handle."""
    public = TPMS_NV_PUBLIC(handle, TPM_ALG_SHA256, attributes, policy, size)
    client.run(NVDefineSpace(TPM_RH_OWNER, auth, public), owner or Password())
    rename(client, handle)
    return handle


def rename(client: Client, handle: int) -> None:
    """Have the client know the Name of an Index, which changes when it is first written."""
    client.names[handle] = client.run(NVReadPublic(handle)).nv_name


def written(client: Client, auth: bytes = b"", attributes: int = AUTH_INDEX, *, policy: bytes = b"",
            handle: int = INDEX) -> int:
    """Define an NV Index that holds the octets 0 to 15, and return its handle."""
    define(client, auth, attributes, policy=policy, handle=handle)
    client.run(NVWrite(handle, handle, bytes(range(16)), 0), Password(auth))
    rename(client, handle)
    return handle
