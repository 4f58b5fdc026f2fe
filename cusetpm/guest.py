"""One vTPM: an engine, its sealed state, and the rule that it is saved before it replies.

A record of state is AES-256-GCM under a key of its own, new for every record: nonce[12], ciphertext, tag[16],
with the vTPM's UUID as associated data.  Two slots take turns (`hwtpm.slots`); the record whose SHA-256 the
manager holds, beside its key, is the truth.  So the order is: write and synchronise the record, have the
manager make hash and key durable, and only then let the response go.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from threading import Lock
from uuid import UUID

from cusetpm.transport import Cancelled, Transport
from hwtpm.crypto import aead
from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import ProtocolError, StateError
from hwtpm.slots import Slots
from hwtpm.tpm2.dispatch import error_response
from hwtpm.tpm2.engine import Engine
from hwtpm.tpm2.types.constants import TPM_RC_NV_UNAVAILABLE
from manager import protocol

log = logging.getLogger(__name__)


class Guest:
    """The vTPM with *uuid*, a `Transport`; a new one is manufactured where the manager knows none.

    Nothing of it is stored before `release`: until then, power can go as if it had never come.

    *path* names its state without the slot's number; *manager* leads to the manager's endpoint for this UUID.
    *entropy*, *now* and *primes* are those of `Engine`; with a *seed* a new vTPM's primary seeds come from
    it.  Raises StateError, one line for people, when state and manager do not agree; nothing is changed then.
    """

    def __init__(self, uuid: UUID, path: Path, manager: Transport, entropy: Callable[[int], bytes],
                 now: Callable[[], int], seed: bytes | None = None,
                 primes: Callable[[int, int], tuple[int, int] | None] | None = None) -> None:
        self.uuid = uuid
        self.saves = 0  # records that the manager has made the truth
        self._manager = manager
        self._lock = Lock()
        self._cancel = False  # of the command in progress, if it came without a *cancelled*
        self._in_doubt = False  # a save failed half-way: the manager has to say which record is the truth
        self._held = True
        self._slots = Slots(path)
        try:
            self._current, self._durable = self._load()
            self.engine = Engine(entropy, now, self._durable, seed, primes)
        except BaseException:
            self._slots.close()
            raise

    def release(self) -> None:
        """What has changed since power-on is durable, as all is that follows.

        Raises OSError, StateError or ProtocolError, one line for people, when it cannot be made so.
        """
        with self._lock:
            if self._held:
                if self.engine.dirty:
                    self._save()
                self._held = False

    def close(self) -> None:
        """The vTPM has lost its power."""
        with self._lock:
            self._slots.close()

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the response to *command*; what it changed is durable by then.

        When it cannot be made durable the answer is TPM_RC_NV_UNAVAILABLE, and the last durable state is that
        of the vTPM again.
        """
        with self._lock:
            if self._in_doubt and not self._settle():
                return error_response(TPM_RC_NV_UNAVAILABLE)
            self._cancel = False
            outcome = self.engine.execute(command, locality, cancelled or self._cancelled)
            if self.engine.fault is not None:
                log.error("vTPM %s is in failure mode", self.uuid, exc_info=self.engine.fault)
                self.engine.fault = None
            if outcome.dirty and not self._held:
                try:
                    self._save()
                except (OSError, ProtocolError, StateError) as error:
                    log.error("vTPM %s: its state cannot be saved: %s", self.uuid, error)
                    self._in_doubt = True
                    self._settle()
                    return error_response(TPM_RC_NV_UNAVAILABLE)
            return outcome.response

    def cancel(self) -> None:
        """Ask the command in progress to end with TPM_RC_CANCELED, if it cannot ask its sender."""
        self._cancel = True

    def _cancelled(self) -> bool:
        return self._cancel

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* may search primes."""
        return self.engine.takes_long(command)

    def _save(self) -> None:
        """Make the engine's state durable in the slot that does not hold the truth."""
        snapshot = self.engine.snapshot()
        key, nonce = os.urandom(aead.KEY_SIZE), os.urandom(aead.NONCE_SIZE)
        record = aead.seal(key, nonce, snapshot, self.uuid.bytes)
        slot = 1 - self._current
        self._slots.write(slot, record)
        self._ask(protocol.save_hash_key(sha256(record).digest() + key))
        self._current, self._durable = slot, snapshot
        self.saves += 1

    def _settle(self) -> bool:
        """Go back to the state that the manager calls the truth; False if it cannot be learned now."""
        try:
            current, durable = self._load()
        except (OSError, ProtocolError, StateError) as error:
            log.error("vTPM %s: its state cannot be read back: %s", self.uuid, error)
            return False
        if durable is None:
            return False
        self._current, self._durable = current, durable
        self.engine.rollback(durable)
        self._in_doubt = False
        return True

    def _load(self) -> tuple[int, bytes | None]:
        """Return the slot that holds the truth, and the snapshot in it; None for a vTPM that is new."""
        records = [self._slots.read(0), self._slots.read(1)]
        known = self._ask(protocol.load_hash_key())
        if not known:
            if None not in records:
                raise StateError(f"{self._slots.path}: there is a state, but the manager has no key for vTPM "
                                 f"{self.uuid}; was the manager's store replaced?")
            return 1, None
        digest, key = known[:32], known[32:]
        for slot, record in enumerate(records):
            if record is not None and sha256(record).digest() == digest:
                try:
                    return slot, aead.open(key, record, self.uuid.bytes)
                except AuthenticationFailed:
                    raise StateError(f"{self._slots.path}.{slot}: belongs to another vTPM") from None
        raise StateError(f"{self._slots.path}: damaged, or an old copy was put back: neither file is the "
                         f"state that the manager knows of vTPM {self.uuid}")

    def _ask(self, request: bytes) -> bytes:
        return protocol.open_response(self._manager.execute(request), request)
