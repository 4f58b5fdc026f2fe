"""The ways to the hardware TPM: our own model behind its registers, or a TPM outside of this program."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from errno import EACCES, EPERM
from pathlib import Path
from threading import Lock
from typing import Final, Protocol, TypeAlias

from cusetpm.settings import Settings
from hwtpm.chip import Chip
from hwtpm.errors import ProtocolError, StateError
from hwtpm.family import Family, family, response_code
from hwtpm.tis.driver import DURATION, Driver
from hwtpm.tis.memory import MemoryWindow
from hwtpm.tis.mmio import ModelWindow

_CMD_SET_LOCALITY: Final = 5  # of swtpm's control channel
_BUFFER: Final = 4096
_HEADER: Final = 10
_CONTROL_S: Final = 10.0  # that a control channel may take
_ALREADY: Final = {"2.0": 0x100, "1.2": 38}  # TPM_RC_INITIALIZE, TPM_INVALID_POSTINIT: it was started before
_REFUSED: Final = "this takes root, and a kernel whose own driver has let go of the TPM"
_TPM_TAG_RSP_COMMAND: Final = 0x00C4
_PROBE: Final = bytes.fromhex("8001 00000016 0000017a 00000006 00000100 00000001")  # TPM2_GetCapability


Primes: TypeAlias = Callable[[int, int], tuple[int, int] | None]
"""Gives a pair of primes for an RSA key of that size and exponent, if there is one."""


class ChipWay(Protocol):
    """A chip that has power, and the way to it."""

    @property
    def failure(self) -> OSError | None:
        """Return why the chip's NV could not be written last, if this process writes it."""

    def execute(self, command: bytes, locality: int) -> bytes:
        """Return the response; raises ProtocolError and OSError if there is none."""

    def release(self) -> None:
        """What has changed since power-on is durable, as all is that follows; OSError if it is not."""

    def counts(self) -> dict[str, int]:
        """Return what has passed here, by name."""

    def close(self) -> None:
        """The way is gone, and so is the power of a chip of this process; twice does nothing."""


class ModelChip:
    """Our own chip, whose NV is at *path*, driven through its TIS registers; the rest is as for `Chip`."""

    def __init__(self, path: Path, now: Callable[[], int], kind: Family,
                 primes: Primes | None = None, key: bytes = b"") -> None:
        self.chip = Chip(path, os.urandom, now, kind=kind, held=True, primes=primes, key=key)
        try:
            self.window = ModelWindow(self.chip.tis)
            self._driver = Driver(self.window, clock=time.monotonic, sleep=time.sleep)
            self._driver.probe()
            # Firmware starts the chip, from locality 0, before anybody else reaches it.
            code = response_code(self._driver.execute(kind.startup["clear"]))
            if code:
                raise StateError(f"{path}: the chip does not start: {kind.rc_name(code)}")
        except BaseException:
            self.chip.close()
            raise
        self.execute, self.release, self.close = self._driver.execute, self.chip.release, self.chip.close

    @property
    def failure(self) -> OSError | None:
        """Return why NV could not be written last."""
        return self.chip.failure

    def counts(self) -> dict[str, int]:
        """Return the accesses to registers, and the writes of NV."""
        return {"TIS register reads": self.window.reads, "TIS register writes": self.window.writes,
                "chip saves": self.chip.saves}


class _ForeignChip:
    """A TPM that is not ours, called *name* in messages: its NV is its own, and what is sent to it is done.

    Commands come from *locality* only; `_transmit` carries them, one at a time.
    """

    def __init__(self, name: str, locality: int) -> None:
        self.failure = None
        self._name, self._locality = name, locality
        self._commands = 0
        self._lock = Lock()

    def execute(self, command: bytes, locality: int) -> bytes:
        """Return the response; raises ProtocolError and OSError if there is none."""
        with self._lock:
            if locality != self._locality:
                raise ProtocolError(f"{self._name}: commands come from locality {self._locality} only")
            response = self._transmit(command)
            self._commands += 1
            return response

    def release(self) -> None:
        """Nothing is held back."""

    def counts(self) -> dict[str, int]:
        """Return the number of commands."""
        return {"chip commands": self._commands}

    def _transmit(self, command: bytes) -> bytes:
        raise NotImplementedError


class RegisterChip(_ForeignChip):
    """The machine's own TPM, its TIS registers in the memory at the *driver* of the settings; thread-safe.

    No other driver may use it: the kernel's has to let go of it first.  The rest is as for `OutsideChip`.
    """

    def __init__(self, driver: str, kind: Family, locality: int, timeout: float = DURATION) -> None:
        super().__init__(driver, locality)
        try:
            self._window: MemoryWindow | None = MemoryWindow(driver.partition(":")[2])
        except OSError as error:
            refused = error.errno in (EACCES, EPERM)
            raise StateError(f"{driver}: {error.strerror}; {_REFUSED if refused else 'set another driver'}"
                             ) from error
        self._driver = Driver(self._window, clock=time.monotonic, sleep=time.sleep,
                              duration=lambda command: timeout)
        try:
            self._driver.probe()
            self._driver.reclaim()  # A run that was killed let go of nothing.
            _check_family(driver, kind, self._driver.execute(_PROBE))
            _check_start(driver, kind, self._driver.execute(kind.startup["clear"]))
            self._driver.request_locality(locality)
        except BaseException as error:
            self.close()
            if isinstance(error, ProtocolError):
                raise StateError(f"{driver}: {error}") from error
            raise

    def _transmit(self, command: bytes) -> bytes:
        if self._window is None:
            raise ProtocolError(f"{self._name}: closed")
        try:
            return self._driver.execute(command, self._locality)
        except ProtocolError as error:
            raise ProtocolError(f"{self._name}: {error}") from error

    def close(self) -> None:
        """The TPM is free for other localities and drivers; twice does nothing."""
        with self._lock:
            if self._window is not None:
                self._driver.release()
                self._window.close()
                self._window = None


class OutsideChip(_ForeignChip):
    """A TPM of another program or of the machine, at the *driver* of the settings; thread-safe.

    A connection that broke is made again with the next command.  Raises StateError, one line for people that
    names the driver, if it is not there, is of another family, or does not have the locality.
    """

    def __init__(self, driver: str, kind: Family, locality: int, timeout: float = DURATION) -> None:
        super().__init__(driver, locality)
        self._kind, self._timeout = kind, timeout
        self._scheme, _, self._place = driver.partition(":")
        self._fd = -1
        self._sockets: list[socket.socket] = []
        try:
            self._open()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise StateError(f"{driver}: {error.strerror or error}; start the TPM there, or set another "
                                 f"driver") from error
            if isinstance(error, ProtocolError):
                raise StateError(str(error)) from error
            raise

    def _transmit(self, command: bytes) -> bytes:
        try:
            if self._fd < 0:
                self._open()
            return self._exchange(command)
        except (OSError, ProtocolError, StateError):
            self._shut()
            raise

    def close(self) -> None:
        """The way is free for others; twice does nothing."""
        with self._lock:
            self._shut()

    def _open(self) -> None:
        """The chip is there, has been started, and takes commands at the locality that is set."""
        if self._scheme == "device":
            self._fd = os.open(self._place, os.O_RDWR | os.O_CLOEXEC)
        else:
            data = self._connect(control=False)
            data.setblocking(True)
            self._fd = data.fileno()
        _check_family(self._name, self._kind, self._exchange(_PROBE))
        if self._scheme == "device":
            return
        if self._locality:
            control = self._connect(control=True)
            self._set_locality(control, 0)  # the firmware's
        _check_start(self._name, self._kind, self._exchange(self._kind.startup["clear"]))
        if self._locality:
            self._set_locality(control, self._locality)

    def _connect(self, *, control: bool) -> socket.socket:
        """Return a connection to one of the two channels; they are where tpm2-tss looks for them."""
        host, _, port = self._place.rpartition(":")
        if host and port.isdecimal() and not host.startswith("/"):
            made = socket.create_connection((host, int(port) + control), _CONTROL_S)
        else:
            made = _unix(f"{self._place}.ctrl" if control else self._place)
        self._sockets.append(made)
        return made

    def _set_locality(self, channel: socket.socket, locality: int) -> None:
        channel.sendall(_CMD_SET_LOCALITY.to_bytes(4, "big") + bytes([locality]))
        if channel.recv(4) != bytes(4):
            raise ProtocolError(f"{self._name}: its control channel refuses locality {locality}")

    def _exchange(self, command: bytes) -> bytes:
        view = memoryview(command)
        while view:
            view = view[os.write(self._fd, view) :]
        response = b""
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        while len(response) < _HEADER or len(response) < int.from_bytes(response[2:6], "big"):
            if not waiting.poll(self._timeout * 1000):
                raise ProtocolError(f"{self._name}: no response within {self._timeout:g} s")
            piece = os.read(self._fd, _BUFFER)
            if not piece:
                raise ProtocolError(f"{self._name}: no response from the TPM")
            response += piece
        return response

    def _shut(self) -> None:
        for connection in self._sockets:
            connection.close()
        if not self._sockets and self._fd >= 0:
            os.close(self._fd)
        self._sockets, self._fd = [], -1


def open_chip(settings: Settings, path: Path, now: Callable[[], int],
              primes: Primes | None = None, key: bytes = b"") -> ChipWay:
    """Return the way to the chip of a state directory whose own chip would have its NV at *path*.

    Raises StateError, one line for people, and OSError.
    """
    kind = family(settings.chip)
    if settings.driver == "model":
        return ModelChip(path, now, kind, primes, key)
    if settings.driver.startswith("tis:"):
        return RegisterChip(settings.driver, kind, settings.locality)
    return OutsideChip(settings.driver, kind, settings.locality)


def _check_family(driver: str, kind: Family, response: bytes) -> None:
    """Raise StateError unless *response* to _PROBE is that of a TPM of this family."""
    # A TPM 2.0 alone answers this with a tag of its own, as Linux tells them apart (tpm2_probe).
    found = "1.2" if int.from_bytes(response[:2], "big") == _TPM_TAG_RSP_COMMAND else "2.0"
    if found != kind.name:
        raise StateError(f"{driver}: this is a TPM {found}, not {kind.name}")


def _check_start(driver: str, kind: Family, response: bytes) -> None:
    """Raise StateError unless *response* to Startup says that the TPM has been started now or before."""
    code = response_code(response)
    if code not in (0, _ALREADY[kind.name]):
        raise StateError(f"{driver}: the chip does not start: {kind.rc_name(code)}")


def _unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(_CONTROL_S)
    try:
        made.connect(path)
    except OSError as error:
        made.close()
        raise OSError(error.errno, error.strerror, path) from None
    return made
