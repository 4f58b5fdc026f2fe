"""One vTPM and its state directory, which this process can let go of while the vTPM stands still.

Machines that share their storage migrate like this: the source says that it is done with the storage and
keeps the vTPM in memory, in case it has to go on after all; the target takes the storage when state comes in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Final, NamedTuple

from cusetpm.daemon import Device, System
from cusetpm.devices.swtpm.abi import BlobType
from cusetpm.statedir import InUse
from cusetpm.transport import Cancelled
from hwtpm.errors import ProtocolError, StateError
from hwtpm.family import family

log = logging.getLogger(__name__)

RETRY_S: Final = 0.01
"""How long to wait until storage that another process holds is asked for again."""


class _Memory(NamedTuple):
    """A vTPM that has power and no storage."""

    permanent: bytes
    running: bytes

    def __repr__(self) -> str:
        return "_Memory()"


class Holder:
    """The vTPM *name* of family *tpm* in the state directory *path*, which *key* encrypts; a `Machine`.

    It has neither storage nor power at first.  *wait* is given seconds.
    """

    def __init__(self, path: Path, name: str, tpm: str, key: bytes = b"",
                 wait: Callable[[float], object] = time.sleep) -> None:
        self.family = tpm
        self._path, self._name, self._key, self._wait = path, name, key, wait
        self._lock = RLock()
        self._system: System | None = None
        self._device: Device | None = None
        self._memory: _Memory | None = None

    def open(self, *, powered: bool = False) -> Device:
        """Take the storage for the first time, on trial until `Device.accept`, and return the device.

        Raises StateError, one line for people, and OSError.
        """
        with self._lock:
            return self._open(powered=powered)

    def close(self) -> None:
        """Everything is shut down in order, and the storage free for others."""
        with self._lock:
            self._memory = None
            self._let_go()

    @property
    def running(self) -> bool:
        """Tell whether the vTPM has power."""
        device = self._device
        return device.running if device is not None else self._memory is not None

    @property
    def established(self) -> bool:
        """Tell whether a measured launch is on record."""
        return self._now().established

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the response to *command*; the vTPM has failed if its storage cannot be had back."""
        with self._lock:
            try:
                device = self._now()
            except (StateError, ProtocolError, OSError) as error:
                log.error("%s", error)
                return family(self.family).failed
            return device.execute(command, locality, cancelled)

    def cancel(self) -> None:
        """Have the command in progress, if any, asked to end."""
        device = self._device
        if device is not None:
            device.cancel()

    def power_on(self, *, keep_volatile: bool) -> None:
        """The vTPM, which had no power, goes on or starts."""
        self._now().power_on(keep_volatile=keep_volatile)

    def power_off(self, *, orderly: bool) -> None:
        """The vTPM has no power; without storage nothing is shut down, because another may have it by now."""
        with self._lock:
            self._memory = None
            if self._device is not None:
                self._device.power_off(orderly=orderly)

    def hash_start(self) -> None:
        """A measured launch begins."""
        self._now().hash_start()

    def hash_data(self, data: bytes) -> None:
        """*data* is the next part of what is launched."""
        self._now().hash_data(data)

    def hash_end(self) -> None:
        """What was launched is in its PCR."""
        self._now().hash_end()

    def presence(self, there: bool) -> None:
        """Somebody is, or is not, at the platform."""
        self._now().presence(there)

    def reset_established(self) -> None:
        """No launch is on record."""
        self._now().reset_established()

    def store_volatile(self) -> None:
        """The next power-on resumes the vTPM as it is now."""
        self._now().store_volatile()

    def get_state(self, kind: BlobType) -> bytes | None:
        """Return the state of that kind."""
        return self._now().get_state(kind)

    def set_state(self, kind: BlobType, state: bytes) -> None:
        """The next power-on takes *state*."""
        self._now().set_state(kind, state)

    def lock(self, retries: int) -> bool:
        """Have the storage; False if another process holds it, after *retries* times RETRY_S.

        Raises StateError if that cannot go on which was in memory, because the storage was used since.
        """
        with self._lock:
            for left in range(retries, -1, -1):
                try:
                    self._now()
                except InUse:
                    if left:
                        self._wait(RETRY_S)
                else:
                    return True
            return False

    def unlock(self) -> None:
        """Another process may take the storage; the vTPM is kept in memory.

        One that cannot be kept there, because its last save is in doubt, keeps its storage.
        """
        with self._lock:
            device = self._device
            if device is None:
                return
            if device.running:
                try:
                    self._memory = _Memory(device.guest.permanent(), device.guest.running())
                except StateError as error:
                    log.warning("the storage is not released: %s", error)
                    return
                device.power_off(orderly=False)
            self._let_go()

    def _now(self) -> Device:
        """Return the device; the storage is taken again if it was let go, and what was in memory goes on."""
        with self._lock:
            if self._device is not None:
                return self._device
            device = self._open()
            memory = self._memory
            try:
                device.accept()
                if memory is not None:
                    device.guest.give_running(memory.running)
                    device.power_on()
            except StateError as error:
                self._let_go()
                if memory is None:
                    raise
                raise StateError(f"{self._path}: used by another process since, so the TPM in memory cannot "
                                 f"go on: {error}") from error
            except BaseException:
                self._let_go()
                raise
            self._memory = None
            return device

    def _open(self, *, powered: bool = False) -> Device:
        system = System(self._path, key=self._key)
        try:
            # Bare as one of swtpm's: swtpm_setup wants to make the endorsement key of a TPM 1.2 itself.
            device = system.add_guest(self._name, tpm=self.family, powered=powered, resume=True, bare=True)
        except BaseException:
            system.close()
            raise
        self._system, self._device = system, device
        return device

    def _let_go(self) -> None:
        system, self._system, self._device = self._system, None, None
        if system is not None:
            system.close()
