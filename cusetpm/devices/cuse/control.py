"""The ioctls of swtpm on an open TPM device, without I/O: numbers and octets in, octets out.

They are those of swtpm's control channel (`cusetpm.devices.swtpm.abi`), in the machine's byte order.  The
size and direction of an argument are in its number, so the kernel carries it both ways by itself.  A state
that does not fit into one argument goes on with more ioctls, or with read() and write() on the same file.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from cusetpm.devices.session import refused
from cusetpm.devices.swtpm import abi
from cusetpm.devices.swtpm.control import Control
from hwtpm.errors import TpmError

_S: Final = abi.structures(abi.HOST_ENDIAN)
_SUCCESS: Final = _S.res.pack(abi.TPM_SUCCESS)
_NOT_HERE: Final = abi.PTM_CAP_SET_DATAFD | abi.PTM_CAP_SEND_COMMAND_HEADER  # what only sockets can do


def is_control(command: int) -> bool:
    """Tell whether *command* is the number of an ioctl of swtpm's kind."""
    return command >> 8 & 0xFF == ord("P")


class ControlFile:
    """The ioctls of one open file of the TPM that *control* controls.

    `sends` tells that read() continues a state that is being fetched, and `receives` that write() continues
    one that is being set.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._fetched: tuple[int, bool, bytes, bool] | None = None  # type, decrypted, blob, is encrypted
        self._offset = 0  # in the blob, of what read() returns next
        self._set: tuple[int, bool, list[bytes]] | None = None  # type, encrypted, pieces
        self.sends = self.receives = False

    def ioctl(self, command: int, argument: bytes) -> bytes:
        """Return what *command* leaves in its argument; it begins with the result, but for the capabilities.

        Raises OSError EINVAL if there is no such ioctl, or *argument* is too short.
        """
        run = _RUN.get(command)
        if run is None or len(argument) < _REQUEST.get(command, 0):
            raise refused(errno.EINVAL)
        try:
            return run(self, argument)
        except TpmError as error:
            return _S.res.pack(error.rc)

    def read(self, size: int) -> bytes:
        """Return at most *size* octets of the state that is being fetched.

        The first read that there are fewer for ends it.  Raises OSError EIO while a state is being set.
        """
        if self.receives:
            self.receives = False
            raise refused(errno.EIO)
        assert self._fetched is not None
        kind, _, blob, _ = self._fetched
        piece = blob[self._offset : self._offset + size]
        self._offset += len(piece)
        if self._offset == len(blob) and self.sends:
            self._control.stateblob_fetched(kind)
        self.sends = len(piece) == size
        return piece

    def write(self, data: bytes) -> None:
        """Take more of the state that is being set.

        Raises OSError EIO when it is too large, and while a state is being fetched.
        """
        if self.sends or self._set is None:
            self.sends = False
            raise refused(errno.EIO)
        try:
            self._append(data)
        except TpmError:
            raise refused(errno.EIO) from None

    # The ioctls that need more than a line.

    def _get_stateblob(self, argument: bytes) -> bytes:
        flags, kind, offset = _S.getstate.unpack_from(argument)
        decrypted = bool(flags & abi.PTM_STATE_FLAG_DECRYPTED)
        self.sends = self.receives = False
        if not offset or self._fetched is None or self._fetched[:2] != (kind, decrypted):
            self._fetched = None
            try:
                blob, encrypted = self._control.get_stateblob(kind, decrypted=decrypted)
            except TpmError as error:
                return _S.getstate_resp.pack(error.rc, 0, 0, 0)
            self._fetched = kind, decrypted, blob, encrypted
        _, _, blob, encrypted = self._fetched
        part = blob[offset : offset + abi.PTM_STATE_BLOB_SIZE]
        self._offset = offset + len(part)
        self.sends = self._offset < len(blob)
        if not self.sends:
            self._control.stateblob_fetched(kind)
        state_flags = abi.PTM_STATE_FLAG_ENCRYPTED if encrypted else 0
        return _S.getstate_resp.pack(abi.TPM_SUCCESS, state_flags, len(blob), len(part)) + part

    def _set_stateblob(self, argument: bytes) -> bytes:
        flags, kind, size = _S.setstate.unpack_from(argument)
        self.sends = False
        if self._control.machine.running:
            raise TpmError(abi.TPM_BAD_ORDINAL)
        if size > abi.PTM_STATE_BLOB_SIZE:
            raise TpmError(abi.TPM_BAD_PARAMETER)
        begins = self._set is None or self._set[0] != kind
        if begins:
            self._set = kind, bool(flags & abi.PTM_STATE_FLAG_ENCRYPTED), []
        self.receives = True
        self._append(argument[_S.setstate.size : _S.setstate.size + size])
        # A piece that is not full is the last one, unless it only says that more comes through write().
        if size == abi.PTM_STATE_BLOB_SIZE or (begins and not size):
            return _SUCCESS
        assert self._set is not None
        _, encrypted, pieces = self._set
        self._set, self.receives = None, False
        self._control.set_stateblob(kind, b"".join(pieces), encrypted=encrypted)
        return _SUCCESS

    def _append(self, data: bytes) -> None:
        assert self._set is not None
        pieces = self._set[2]
        if sum(map(len, pieces)) + len(data) > abi.MAX_STATE_BLOB:
            self._set, self.receives = None, False
            raise TpmError(abi.TPM_FAIL)
        pieces.append(data)

    def _hash_data(self, argument: bytes) -> bytes:
        (size,) = _S.hdata.unpack_from(argument)
        if size > abi.PTM_HASH_DATA_SIZE:
            raise TpmError(abi.TPM_FAIL)
        self._control.hash_data(argument[_S.hdata.size : _S.hdata.size + size])
        return _SUCCESS

    def _get_info(self, argument: bytes) -> bytes:
        flags, offset, _ = _S.getinfo.unpack_from(argument)
        text = self._control.get_info(flags)
        if offset >= len(text) - 1:
            raise TpmError(abi.TPM_BAD_PARAMETER)
        part = text[offset : offset + abi.PTM_GETINFO_SIZE]
        return _S.getinfo_resp.pack(abi.TPM_SUCCESS, len(text), len(part)) + part

    def _get_tpmestablished(self, argument: bytes) -> bytes:
        return _S.est.pack(abi.TPM_SUCCESS, self._control.get_tpmestablished())

    def _get_capability(self, argument: bytes) -> bytes:
        return _S.cap.pack(self._control.capabilities() & ~_NOT_HERE)

    def _get_config(self, argument: bytes) -> bytes:
        return _S.getconfig.pack(abi.TPM_SUCCESS, self._control.get_config())

    def _set_buffersize(self, argument: bytes) -> bytes:
        sizes = self._control.set_buffersize(_S.setbuffersize.unpack_from(argument)[0])
        return _S.setbuffersize_resp.pack(abi.TPM_SUCCESS, *sizes)


def _bare(action: Callable[[Control], None]) -> Callable[[ControlFile, bytes], bytes]:
    """Return how to run an ioctl that has neither arguments nor results."""

    def run(file: ControlFile, _argument: bytes) -> bytes:
        action(file._control)
        return _SUCCESS

    return run


def _number(action: Callable[[Control, int], None], size: int) -> Callable[[ControlFile, bytes], bytes]:
    """Return how to run an ioctl whose argument is a number of *size* octets, and that has no results."""

    def run(file: ControlFile, argument: bytes) -> bytes:
        action(file._control, int.from_bytes(argument[:size], _ORDER))
        return _SUCCESS

    return run


_ORDER: Final = "little" if abi.HOST_ENDIAN == "<" else "big"
_RUN: Final[dict[int, Callable[[ControlFile, bytes], bytes]]] = {
    abi.PTM_GET_CAPABILITY: ControlFile._get_capability,
    abi.PTM_INIT: _number(Control.init, 4),
    abi.PTM_SHUTDOWN: _bare(Control.stop),
    abi.PTM_GET_TPMESTABLISHED: ControlFile._get_tpmestablished,
    abi.PTM_SET_LOCALITY: _number(Control.set_locality, 1),
    abi.PTM_HASH_START: _bare(Control.hash_start),
    abi.PTM_HASH_DATA: ControlFile._hash_data,
    abi.PTM_HASH_END: _bare(Control.hash_end),
    abi.PTM_CANCEL_TPM_CMD: _bare(Control.cancel_tpm_cmd),
    abi.PTM_STORE_VOLATILE: _bare(Control.store_volatile),
    abi.PTM_RESET_TPMESTABLISHED: _number(Control.reset_tpmestablished, 1),
    abi.PTM_GET_STATEBLOB: ControlFile._get_stateblob,
    abi.PTM_SET_STATEBLOB: ControlFile._set_stateblob,
    abi.PTM_STOP: _bare(Control.stop),
    abi.PTM_GET_CONFIG: ControlFile._get_config,
    abi.PTM_SET_BUFFERSIZE: ControlFile._set_buffersize,
    abi.PTM_GET_INFO: ControlFile._get_info,
    abi.PTM_LOCK_STORAGE: _number(Control.lock_storage, 4),
}
_REQUEST: Final = {
    abi.PTM_INIT: _S.init.size,
    abi.PTM_SET_LOCALITY: _S.loc.size,
    abi.PTM_HASH_DATA: _S.hdata.size,
    abi.PTM_RESET_TPMESTABLISHED: _S.loc.size,
    abi.PTM_GET_STATEBLOB: _S.getstate.size,
    abi.PTM_SET_STATEBLOB: _S.setstate.size,
    abi.PTM_SET_BUFFERSIZE: _S.setbuffersize.size,
    abi.PTM_GET_INFO: _S.getinfo.size,
    abi.PTM_LOCK_STORAGE: _S.lockstorage.size,
}
"""How many octets an argument has at least, data aside."""
