"""What swtpm's control channel does to a TPM, whichever way its commands come: one method for each of them.

Two rules for this file.  All that a client can see of the state of things is decided here: power, locality,
what needs a running TPM and what a stopped one, and with which result a command is refused.  And nothing here
knows how arguments and results are encoded, or whether the TPM is a 1.2 or a 2.0.

A method returns its results, or raises TpmError with the result of the command (`abi`, TPM_...).  Any thread
may call any of them; those that change power or state go one after the other.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Final, NamedTuple, Protocol, cast

from cusetpm.devices.swtpm import abi, blob, info
from cusetpm.devices.swtpm.abi import BlobType
from cusetpm.transport import Cancelled
from hwtpm.errors import MissingPrimitive, ProtocolError, StateError, TpmError
from hwtpm.tpm2.profile import MAX_CONTEXT_SIZE, MAX_RESPONSE_SIZE

log = logging.getLogger(__name__)

MAX_LOCALITY: Final = 4
LOCKING_RETRIES: Final = 300
"""How often, 10 ms apart, storage that was released on purpose is asked for when it is needed again."""

_BLOB_TYPES: Final = frozenset({
    abi.PTM_BLOB_TYPE_PERMANENT, abi.PTM_BLOB_TYPE_VOLATILE, abi.PTM_BLOB_TYPE_SAVESTATE})
_ESTABLISHMENT_LOCALITIES: Final = frozenset({3, 4})


class Family(NamedTuple):
    """What differs in octets between the families of TPM."""

    tag: int  # of a response that is only a header
    failure: int  # TPM_RC_FAILURE, TPM_FAIL
    bad_locality: int
    too_short: int
    not_a_state: int  # the result for a state blob of somebody else
    buffer_sizes: tuple[int, int]  # octets of messages: the smallest and the largest limit a client may set

    def error(self, code: int) -> bytes:
        """Return the response with the one response code *code*."""
        return self.tag.to_bytes(2, "big") + (10).to_bytes(4, "big") + code.to_bytes(4, "big")


FAMILIES: Final = {
    "1.2": Family(0x00C4, abi.TPM_FAIL, abi.TPM_BAD_LOCALITY, 0x19, abi.TPM_BAD_VERSION, (3072, 4096)),
    # A saved context is the largest message that a TPM 2.0 cannot do without.
    "2.0": Family(0x8001, 0x101, 0x907, 0x9A, 0x1E, (MAX_CONTEXT_SIZE + 128, MAX_RESPONSE_SIZE)),
}


class Machine(Protocol):
    """A TPM as the computer around it sees it: power, measured launches, the storage and the state.

    Methods may raise TpmError with a result (`abi`, TPM_...), StateError and ProtocolError with one line for
    people, and OSError; nothing has changed then.
    """

    @property
    def family(self) -> str:
        """Tell which TPM this is: "1.2" or "2.0"."""
        ...

    @property
    def running(self) -> bool:
        """Tell whether the TPM has power."""
        ...

    def power_on(self, *, keep_volatile: bool) -> None:
        """The TPM has got power; it resumes a volatile state that was set or stored.

        *keep_volatile* tells whether a stored one is still there afterwards.
        """
        ...

    def power_off(self, *, orderly: bool) -> None:
        """The TPM has no power; if *orderly*, a 2.0 was shut down first unless its guest had done so."""
        ...

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the response to *command*, as `Transport.execute`."""
        ...

    def cancel(self) -> None:
        """Have the command in progress, if any, asked to end."""
        ...

    def hash_start(self) -> None:
        """A measured launch begins, and is on the record as established."""
        ...

    def hash_data(self, data: bytes) -> None:
        """*data* is the next part of what is launched."""
        ...

    def hash_end(self) -> None:
        """What was launched is in its PCR."""
        ...

    def presence(self, there: bool) -> None:
        """Somebody is, or is not, at the platform (physical presence), until power goes."""
        ...

    @property
    def established(self) -> bool:
        """Tell whether there was a measured launch since `reset_established`."""
        ...

    def reset_established(self) -> None:
        """The record of a measured launch is clear."""
        ...

    def store_volatile(self) -> None:
        """The next power-on resumes the TPM as it is now, also in another process."""
        ...

    def get_state(self, kind: BlobType) -> bytes | None:
        """Return the state of that kind of the running TPM; None if it has none."""
        ...

    def set_state(self, kind: BlobType, state: bytes) -> None:
        """The next power-on takes *state*; empty takes back what was set before.

        Raises StateError if it is no such state; nothing that was set before counts any more then.
        """
        ...

    def lock(self, retries: int) -> bool:
        """Have the storage for this process alone; False if another has it, after *retries* times 10 ms."""
        ...

    def unlock(self) -> None:
        """Another process may take the storage, until the next `lock`; the TPM goes on in memory."""
        ...


class Policy(NamedTuple):
    """What the user who starts a TPM decides about it."""

    auto_shutdown: bool = True  # shut a TPM 2.0 down in an orderly way before it loses power
    reject_locality_4: bool = False
    allow_set_locality: bool = False  # obey the command of Linux' vtpm-proxy that sets the locality
    release_lock_outgoing: bool = False  # let go of the storage when the last state blob has been fetched
    keys: blob.Keys = blob.Keys()


class Control:
    """The control of one *machine*; `locality` is that of commands which do not bring their own.

    `data_taken` tells whether no way in for commands can be passed (SET_DATAFD), because there is one.
    """

    def __init__(self, machine: Machine, policy: Policy = Policy(),  # noqa: B008 - immutable
                 random: Callable[[int], bytes] = os.urandom) -> None:
        self.machine = machine
        self.family = FAMILIES[machine.family]
        self.locality = 0
        self.data_taken: Callable[[], bool] = lambda: True
        self._policy = policy
        self._random = random
        self._buffer_size = self.family.buffer_sizes[1]
        self._retries = 0
        self._cancels = 0
        self._lock = RLock()

    # Commands for the TPM.

    def execute(self, command: bytes, cancelled: Cancelled | None = None, *,
                locality: int | None = None) -> bytes:
        """Return the response to *command*, at `locality` unless it brings one.

        A TPM without power answers that it has failed.
        """
        if not self.machine.running:
            return self.family.error(self.family.failure)
        if locality is None:
            locality = self.locality
        elif not self.accepts(locality):
            return self.family.error(self.family.bad_locality)
        if command[6:10] == _SET_LOCALITY:
            if len(command) >= _SET_LOCALITY_SIZE and not self._policy.allow_set_locality:
                return self.family.error(self.family.failure)
            return self.set_locality_in_band(command)
        # Defaults instead of a closure, whose cells cost every command more than this function.
        def stop(self: Control = self, asked: int = self._cancels,
                 cancelled: Cancelled | None = cancelled) -> bool:
            return self._cancels != asked or (cancelled is not None and cancelled())

        response = self.machine.execute(command, locality, stop)
        if len(response) > self._buffer_size:
            return self.family.error(self.family.failure)
        return response

    def cancel(self) -> None:
        """Every command that came through `execute` and is not answered yet has been asked to end."""
        self._cancels += 1
        self.machine.cancel()

    def set_locality_in_band(self, command: bytes) -> bytes:
        """Do what TPM2_CC_SET_LOCALITY says, and return the response to it, whoever may send it."""
        family = self.family
        if len(command) < _SET_LOCALITY_SIZE:
            return family.error(family.too_short)
        if not self.accepts(command[10]):
            return family.error(family.bad_locality)
        self.locality = command[10]
        return family.error(0)

    def accepts(self, locality: int) -> bool:
        """Tell whether *locality* may be set."""
        return locality <= MAX_LOCALITY and not (locality == MAX_LOCALITY and self._policy.reject_locality_4)

    # Control commands.

    def capabilities(self) -> int:
        """Return the PTM_CAP_ flags of all commands over a socket; always succeeds."""
        every = (abi.PTM_CAP_LOCK_STORAGE << 1) - 1
        return every if self.machine.family == "2.0" else every & ~abi.PTM_CAP_SEND_COMMAND_HEADER

    def init(self, flags: int) -> None:
        """The TPM starts with power-on, whether it ran or not."""
        with self._serial():
            self._power_off()
            self._have_storage(abi.TPM_FAIL)
            self.machine.power_on(keep_volatile=not flags & abi.PTM_INIT_FLAG_DELETE_VOLATILE)

    def stop(self) -> None:
        """The TPM has no power."""
        with self._serial():
            self._power_off()

    def power_on(self) -> None:
        """The TPM has power, if it had none."""
        with self._serial():
            if not self.machine.running:
                self._have_storage(abi.TPM_FAIL)
                self.machine.power_on(keep_volatile=False)

    def lose_power(self) -> None:
        """The TPM has no power, without any warning."""
        with self._serial():
            if self.machine.running:
                self.cancel()
                self.machine.power_off(orderly=False)

    def presence(self, there: bool) -> None:
        """Somebody is, or is not, at the platform."""
        with self._serial():
            self._need_running()
            self.machine.presence(there)

    def get_tpmestablished(self) -> bool:
        """Tell whether there was a measured launch since the bit was reset."""
        with self._serial():
            self._need_running()
            return self.machine.established

    def reset_tpmestablished(self, locality: int) -> None:
        """The bit is reset, which localities 3 and 4 may do."""
        with self._serial():
            self._need_running()
            if locality not in _ESTABLISHMENT_LOCALITIES:
                raise TpmError(abi.TPM_BAD_LOCALITY)
            self.machine.reset_established()

    def set_locality(self, locality: int) -> None:
        """Commands come from *locality* from now on."""
        if not self.accepts(locality):
            raise TpmError(abi.TPM_BAD_LOCALITY)
        self.locality = locality

    def hash_start(self) -> None:
        """A measured launch begins."""
        with self._serial():
            self._need_running()
            self.machine.hash_start()

    def hash_data(self, data: bytes) -> None:
        """*data* is the next part of what is launched."""
        with self._serial():
            self._need_running()
            self.machine.hash_data(data)

    def hash_end(self) -> None:
        """What was launched is in its PCR."""
        with self._serial():
            self._need_running()
            self.machine.hash_end()

    def cancel_tpm_cmd(self) -> None:
        """The command in progress, if any, has been asked to end; does not wait for anything."""
        self._need_running()
        self.cancel()

    def store_volatile(self) -> None:
        """The running state is stored for the next `init`."""
        with self._serial():
            self._need_running()
            self.machine.store_volatile()

    def get_stateblob(self, kind: int, *, decrypted: bool) -> tuple[bytes, bool]:
        """Return the state of *kind* as a blob, and whether the file key encrypts it.

        TPM_RETRY if there is no such state, which clients take for an empty one.
        """
        with self._serial():
            self._need_running()
            if kind not in _BLOB_TYPES:
                raise TpmError(abi.TPM_FAIL)
            state = self.machine.get_state(cast("BlobType", kind))
            if state is None:
                raise TpmError(abi.TPM_RETRY)
            return blob.wrap(state, self._policy.keys, self._random, decrypted=decrypted)

    def stateblob_fetched(self, kind: int) -> None:
        """The client has got all it asked for: the last of the three ends a migration."""
        if kind == abi.PTM_BLOB_TYPE_SAVESTATE and self._policy.release_lock_outgoing:
            with self._serial():
                self.machine.unlock()
                self._retries = LOCKING_RETRIES

    def set_stateblob(self, kind: int, octets: bytes, *, encrypted: bool) -> None:
        """The next `init` takes the state in the blob *octets*; an empty one takes back what was set."""
        with self._serial():
            self._need_stopped()
            self._have_storage(abi.TPM_IOERROR)
            if kind not in _BLOB_TYPES:
                raise TpmError(abi.TPM_BAD_PARAMETER)
            state = blob.unwrap(octets, self._policy.keys, encrypted=encrypted)
            try:
                self.machine.set_state(cast("BlobType", kind), state)
            except StateError as error:
                log.error("a state blob of type %d is refused: %s", kind, error)
                raise TpmError(self.family.not_a_state) from error

    def get_config(self) -> int:
        """Return the PTM_CONFIG_FLAG_ of the keys in use."""
        keys = self._policy.keys
        flags = abi.PTM_CONFIG_FLAG_FILE_KEY if keys.file else 0
        return flags | (abi.PTM_CONFIG_FLAG_MIGRATION_KEY if keys.migration else 0)

    def set_buffersize(self, wanted: int) -> tuple[int, int, int]:
        """Return the size of messages in use, the smallest and the largest; *wanted* 0 only asks for them."""
        smallest, largest = self.family.buffer_sizes
        if wanted:
            self._need_stopped()
            self._buffer_size = max(smallest, min(wanted, largest))
        return self._buffer_size, smallest, largest

    def get_info(self, flags: int) -> bytes:
        """Return what the SWTPM_INFO_ *flags* ask for as JSON, with a zero octet at the end."""
        return info.describe(self.machine.family, flags).encode() + b"\0"

    def lock_storage(self, retries: int) -> None:
        """The storage is this process' alone."""
        with self._serial():
            if not self.machine.lock(retries):
                self._retries = retries
                raise TpmError(abi.TPM_FAIL)
            self._retries = 0

    def _power_off(self) -> None:
        if self.machine.running:
            self.cancel()
            self.machine.power_off(orderly=self._policy.auto_shutdown)

    def _need_stopped(self) -> None:
        if self.machine.running:
            raise TpmError(abi.TPM_BAD_ORDINAL)

    def _need_running(self) -> None:
        if not self.machine.running:
            raise TpmError(abi.TPM_BAD_ORDINAL)

    def _have_storage(self, result: int) -> None:
        if not self.machine.lock(self._retries):
            raise TpmError(result)
        self._retries = 0

    @contextmanager
    def _serial(self) -> Iterator[None]:
        """No other command is in between, and what goes wrong is a result."""
        with self._lock:
            try:
                yield
            except (StateError, ProtocolError, MissingPrimitive, OSError) as error:
                log.error("%s", error)
                raise TpmError(abi.TPM_FAIL) from error


_SET_LOCALITY: Final = abi.TPM2_CC_SET_LOCALITY.to_bytes(4, "big")
_SET_LOCALITY_SIZE: Final = 11
