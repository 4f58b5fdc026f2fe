"""The two TPMs 1.2 that are compared, each of which can return at once to a state that it was in."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any, TypeVar

import pytest

from hwtpm.client12 import Client
from hwtpm.crypto import ids
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.tpm12.engine import Engine
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.endorsement import CreateEndorsementKeyPair
from hwtpm.tpm12.requests.ownership import TakeOwnership
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.state.keys import pub_data_digest
from hwtpm.tpm12.types.constants import (
    TPM_KEY_STORAGE,
    TPM_MIGRATABLE,
    TPM_PID_OWNER,
    TPM_PT_ASYM,
    TPM_ST_CLEAR,
)
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_STORE_ASYMKEY
from hwtpm.tpm12.wrapping import OAEP_LABEL, with_enc_data
from hwtpm.wire import Wire, encode
from tests.oracle.sides import ENDED
from tests.oracle.tpm12 import libtpms
from tests.support.tpm12 import (
    KEY_AUTH,
    MIGRATION_AUTH,
    OWNER_AUTH,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    encrypt_to,
    key_template,
    load_key,
    once,
    started,
)
from tests.support.tpm12_both import modulus, primes

R = TypeVar("R", bound=Wire)
NEW, OWNED = "new", "owned"
PRESENT, COMMANDS_ENABLED = 0x0008, 0x0020  # of TPM_PHYSICAL_PRESENCE
_ENDED = b"\0\xc4\0\0\0\x0a" + ENDED.to_bytes(4, "big")


class Side:
    """One of the two TPMs; `begin` returns to a base: enabled, activated, and new or with an owner."""

    name: str
    client: Client

    def __init__(self) -> None:
        self._bases: dict[str, Any] = {}
        self.client = Client(self.execute, CtrDrbg(b"nonces").generate)
        self.run(PhysicalPresence(COMMANDS_ENABLED))
        self.keep()
        self._bases[NEW] = self._kept
        self.pubek = self.run(CreateEndorsementKeyPair(bytes(20), STORAGE_PARMS)).pub_endorsement_key
        owner, srk = (encrypt_to(self.pubek, auth) for auth in (OWNER_AUTH, SRK_AUTH))
        self.srk = self.run(
            TakeOwnership(TPM_PID_OWNER, owner, srk, key_template(TPM_KEY_STORAGE, STORAGE_PARMS)),
            once(self.client.oiap(OWNER_AUTH)),
        ).srk_pub
        self.keep()
        self._bases[OWNED] = self._kept

    def execute(self, command: bytes, /) -> bytes:
        raise NotImplementedError

    def set_locality(self, locality: int) -> None:
        raise NotImplementedError

    def power_cycle(self) -> None:
        """Lose power and get it back; no Startup is done."""
        raise NotImplementedError

    def keep(self) -> None:
        """The present state is what `back` returns to."""
        raise NotImplementedError

    def back(self) -> None:
        """Return to the state that was kept last."""
        raise NotImplementedError

    def begin(self, base: str) -> None:
        """Return to that base, and keep it."""
        self._kept = self._bases[base]
        self.back()

    def run(self, request: Command[R], *sessions: Any) -> R:
        return self.client.run(request, *sessions)

    def owner(self, request: Command[R]) -> R:
        """Run a request that the owner authorizes."""
        return self.run(request, once(self.client.oiap(OWNER_AUTH)))

    def present(self) -> None:
        """Somebody is there."""
        self.run(PhysicalPresence(PRESENT))

    def wrap(self, usage: int, parms: TPM_KEY_PARMS, **template: Any) -> TPM_KEY:
        """Return the one key that both know under the SRK, as software wraps it."""
        key = key_template(usage, parms, **({"flags": TPM_MIGRATABLE} | template))
        key.pub_key = modulus()
        prime = primes(2048)[0].to_bytes(128, "big")
        stored = TPM_STORE_ASYMKEY(TPM_PT_ASYM, KEY_AUTH, MIGRATION_AUTH, pub_data_digest(key), prime)
        srk = RsaPublic(self.srk.pub_key)
        return with_enc_data(key, srk.encrypt_oaep(ids.SHA1, OAEP_LABEL, encode(stored)))

    def load(self, usage: int, parms: TPM_KEY_PARMS, **template: Any) -> int:
        """Return the handle of that key."""
        return load_key(self.client, self.wrap(usage, parms, **template))


class Ours(Side):
    """Our engine.  What it returns to is what its owners of state give as octets."""

    name = "ours"

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.machine: Machine = started(b"the oracle")
        super().__init__()

    def execute(self, command: bytes, /) -> bytes:
        try:
            return self.machine.execute(command)
        except Exception as fault:  # A defect is a difference like any other, and the run goes on.
            self.faults.append(fault)
            return b"\0\xc4\0\0\0\x0a\0\0\0\x09"

    def set_locality(self, locality: int) -> None:
        self.machine.locality = locality

    def power_cycle(self) -> None:
        self.machine.power_cycle()

    def keep(self) -> None:
        durable = self.machine.engine.snapshot()
        volatile = [owner.save_volatile() for owner in self.machine.tpm.owners]
        self._kept = durable, volatile, self.machine.primes.number, self.machine.locality

    def back(self) -> None:
        machine, (durable, volatile, number, locality) = self.machine, self._kept
        machine.primes.number = number
        machine.engine = Engine(machine.entropy, machine.clock, durable, None, machine.primes)
        machine.durable, machine.locality = durable, locality
        for owner, octets in zip(machine.tpm.owners, volatile, strict=True):
            owner.restore_volatile(octets)

    def close(self) -> None:
        """Nothing has to be ended."""


class _Copy:
    """One process of libtpms, and what stands in it; it ends when this is closed."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.settimeout(600)

    def send(self, request: bytes) -> None:
        self._end.send(request)

    def ask(self, request: bytes) -> bytes:
        """Return the answer; ConnectionError when the process ends instead."""
        self._end.send(request)
        answer = self._end.recv(libtpms.MOST)
        if not answer:
            raise ConnectionResetError("libtpms has gone")
        return answer

    def fork(self) -> _Copy:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            socket.send_fds(self._end, [libtpms.FORK], [far.fileno()])
        return _Copy(near)

    def close(self) -> None:
        self._end.close()


class Theirs(Side):
    """swtpm's TPM 1.2, which is libtpms, without the process around it (`libtpms` says why)."""

    name = "swtpm"

    def __init__(self) -> None:
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", libtpms.__file__, str(far.fileno())], pass_fds=[far.fileno()])
        answer = near.recv(libtpms.MOST)
        if answer != libtpms.READY:
            pytest.skip(answer.decode())
        self._copy = self._kept = _Copy(near)
        Client(self.execute, bytes).run(Startup(TPM_ST_CLEAR))
        super().__init__()

    def execute(self, command: bytes, /) -> bytes:
        try:
            return self._copy.ask(libtpms.EXECUTE + command)
        except ConnectionError:
            return _ENDED

    def set_locality(self, locality: int) -> None:
        self._copy.send(libtpms.LOCALITY + bytes([locality]))

    def power_cycle(self) -> None:
        self._copy.ask(libtpms.POWER_CYCLE)

    def keep(self) -> None:
        self._kept = self._copy
        self._copy = self._kept.fork()

    def back(self) -> None:
        self._copy.close()
        self._copy = self._kept.fork()

    def begin(self, base: str) -> None:
        if self._kept not in self._bases.values():
            self._kept.close()
        super().begin(base)

    def close(self) -> None:
        """End all processes."""
        for copy in (self._copy, self._kept, *self._bases.values()):
            copy.close()
        self._process.wait()
