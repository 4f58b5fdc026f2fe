"""Which commands are audited, and the digest of those that were (Part 1, 19; Part 3, 8.1)."""

from __future__ import annotations

from hashlib import sha1
from typing import Annotated, Any, ClassVar, Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.audit import TPM_AUDIT_EVENT_IN, TPM_AUDIT_EVENT_OUT
from hwtpm.tpm12.types.base import TPM_DIGEST, UINT8, UINT32, ZERO_DIGEST
from hwtpm.tpm12.types.codes import TPM_AUDITFAIL_SUCCESSFUL
from hwtpm.tpm12.types.counter import TPM_COUNTER_VALUE
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1
_LAST: Final = 0xFFFFFFFF
_NO_LABEL: Final = bytes(4)


class _Permanent(Wire):
    version: UINT8
    counter: UINT32
    changed: Annotated[list[UINT32], ListOf(0xFFFF)]


class _Volatile(Wire):
    version: UINT8
    digest: TPM_DIGEST


class Audit(Owner):
    """`digest` is auditDigest, zeros while no audit session is under way.

    `changed` has the ordinals whose audit status is not the one that the TPM came with.
    """

    TAG: ClassVar[bytes] = b"audt"

    def __init__(self) -> None:
        super().__init__()
        self.digest = ZERO_DIGEST
        self._counter = 0
        self._changed: set[int] = set()

    @property
    def counter(self) -> TPM_COUNTER_VALUE:
        """The auditMonotonicCounter, which counts audit sessions."""
        return TPM_COUNTER_VALUE(_NO_LABEL, self._counter)

    def audited(self, request: type[Command[Any]]) -> bool:
        """Tell whether the command is audited."""
        return (request.ORD in self._changed) != request.AUDIT_DEFAULT

    def set_audited(self, request: type[Command[Any]], audited: bool) -> None:
        """The command is audited, or not."""
        if self.audited(request) != audited:
            self._changed ^= {request.ORD}
            self.touch()

    def record_in(self, digest: bytes) -> None:
        """A command of which *digest* is the digest of parameters is in the audit digest.

        The first one of an audit session increments the counter; TPM_AUDITFAIL_SUCCESSFUL when it cannot go
        higher.
        """
        if self.digest == ZERO_DIGEST:
            if self._counter == _LAST:
                raise TpmError(TPM_AUDITFAIL_SUCCESSFUL)
            self._counter += 1
            self.touch()
        self.digest = sha1(self.digest + encode(TPM_AUDIT_EVENT_IN(digest, self.counter))).digest()

    def record_out(self, digest: bytes) -> None:
        """A response of which *digest* is the digest of parameters is in the audit digest."""
        self.digest = sha1(self.digest + encode(TPM_AUDIT_EVENT_OUT(digest, self.counter))).digest()

    def close(self) -> None:
        """The audit session is over; the next audited command begins another."""
        self.digest = ZERO_DIGEST

    def owner_clear(self, *, revoke: bool = False) -> None:
        """The commands are audited that were when the TPM was new; the counter stays (Part 3, 6.2)."""
        self.close()
        if self._changed:
            self._changed.clear()
            self.touch()

    def startup(self, start: Start) -> None:
        """The audit session is over, unless a saved state was resumed (ST_CLEAR_AUDITDIGEST: Part 2, 4.6)."""
        if start is not Start.STATE:
            self.close()

    def save(self) -> bytes:
        """Return version, counter and the changed ordinals."""
        return encode(_Permanent(_FORMAT, self._counter, sorted(self._changed)))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"audit state of version {found.version}")
        self._counter, self._changed = found.counter, set(found.changed)

    def save_volatile(self) -> bytes:
        """Return version and the digest."""
        return encode(_Volatile(_FORMAT, self.digest))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"audit digest of version {found.version}")
        self.digest = found.digest
