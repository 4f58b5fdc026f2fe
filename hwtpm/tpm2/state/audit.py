"""Command audit: which commands are audited, and their digest (Part 1, 32)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Final

from hwtpm.crypto import hashes
from hwtpm.tpm2.profile import CONTEXT_INTEGRITY_HASH_ALG, MAX_CAP_CC, MAX_DIGEST_SIZE
from hwtpm.tpm2.state.owner import Owner, Start
from hwtpm.tpm2.types.base import UINT8, UINT16, UINT32, UINT64
from hwtpm.tpm2.types.constants import TPM_CC_SetCommandCodeAuditStatus, TPM_CC_Shutdown
from hwtpm.wire import ListOf, Sized, Wire, decode, encode

_FORMAT: Final = 1
_ALWAYS: Final = TPM_CC_SetCommandCodeAuditStatus


class _Permanent(Wire):
    version: UINT8
    alg: UINT16
    counter: UINT64
    commands: Annotated[list[UINT32], ListOf(MAX_CAP_CC, prefix="H")]


class _Volatile(Wire):
    version: UINT8
    digest: Annotated[bytes, Sized(MAX_DIGEST_SIZE, prefix="B")]


class Audit(Owner):
    """`commands` are the codes of the audited commands; TPM2_SetCommandCodeAuditStatus always is one.

    `digest` is empty until the first audited command of a log, which increments `counter`.
    """

    TAG: ClassVar[bytes] = b"audt"

    def __init__(self) -> None:
        super().__init__()
        self.commands = frozenset({_ALWAYS})
        self.alg = CONTEXT_INTEGRITY_HASH_ALG
        self.counter = 0
        self.digest = b""

    def select(self, added: Iterable[int], removed: Iterable[int]) -> None:
        """The commands of *added* are audited, then those of *removed* are not any more.

        TPM2_Shutdown cannot be audited, and TPM2_SetCommandCodeAuditStatus stays (Part 3, 21).
        """
        commands = ((self.commands | set(added)) - set(removed) - {TPM_CC_Shutdown}) | {_ALWAYS}
        if commands != self.commands:
            self.commands = commands
            self.touch()

    def change_alg(self, alg: int) -> None:
        """The digest is one of *alg*, and empty."""
        self.alg = alg
        self.digest = b""
        self.touch()

    def record(self, alg: int, cp_hash: bytes, rp_hash: bytes) -> None:
        """Extend the digest by a command that has succeeded; the first one of a log counts.

        Nothing is recorded when the algorithm is not *alg* any more: the command has changed it.
        """
        if alg != self.alg:
            return
        if not self.digest:
            self.digest = bytes(hashes.size(alg))
            self.counter = (self.counter + 1) & 0xFFFFFFFFFFFFFFFF
            self.touch()
        self.digest = hashes.digest(alg, self.digest, cp_hash, rp_hash)

    def command_digest(self) -> bytes:
        """Return the digest of the codes of the audited commands, in ascending order."""
        return hashes.digest(self.alg, *[code.to_bytes(4, "big") for code in sorted(self.commands)])

    def end_log(self) -> None:
        """The digest is empty: the next audited command starts another log."""
        self.digest = b""

    def clear(self) -> None:
        """What TPM2_Clear does: the count of logs is zero."""
        self.counter = 0
        self.touch()

    def startup(self, start: Start) -> None:
        """The digest is empty after a TPM Reset (Part 1, 34.4.4)."""
        if start is Start.RESET:
            self.digest = b""

    def save(self) -> bytes:
        """Return version, algorithm, count of logs and the audited commands."""
        return encode(_Permanent(_FORMAT, self.alg, self.counter, sorted(self.commands)))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"audit state of version {found.version}")
        self.alg, self.counter = found.alg, found.counter
        self.commands = frozenset(found.commands)

    def save_volatile(self) -> bytes:
        """Return version and the digest."""
        return encode(_Volatile(_FORMAT, self.digest))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"audit digest of version {found.version}")
        self.digest = found.digest
