"""The control channel over a socket without I/O: octets in, octets and actions out.

A control command is what arrives together.  Some commands say how long they are, and a client that sends a
part of one gets TIMEOUT_S for the rest; the others are whatever came with one read, so that two sent at once
are one wrong command.  This is how swtpm reads, and clients send each command with one write for that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from cusetpm.devices.swtpm import abi
from cusetpm.devices.swtpm.control import Control
from hwtpm.errors import TpmError

TIMEOUT_S: Final = 0.5
"""How long the rest of a control command may take, from its first octets."""

_S: Final = abi.structures(abi.BIG_ENDIAN)
_CODE: Final = _S.res.size
_INPUT: Final = _CODE + _S.hdata.size + abi.PTM_HASH_DATA_SIZE
"""How many octets of a command are collected before it begins; what else it has is taken as it comes."""

_SUCCESS: Final = _S.res.pack(abi.TPM_SUCCESS)


class Attach(NamedTuple):
    """Commands for the TPM come over the file *fd*, too, from now on."""

    fd: int


class End(NamedTuple):
    """The program ends, once all before this is done."""


class Hangup(NamedTuple):
    """The connection is closed: where its next command would begin is unknown."""


Action: TypeAlias = bytes | Attach | End | Hangup


class _Transfer(NamedTuple):
    """What happens to the data of a command, which may come in any number of pieces."""

    take: Callable[[bytes], None]
    end: Callable[[], None]
    cut_short: int  # the result if the client leaves before the end


class ControlChannel:
    """One connection to the control channel of *control*; calls are serialised by the connection."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._input = b""
        self._transfer: _Transfer | None = None
        self._rest = 0  # octets of data that the transfer waits for

    @property
    def waiting(self) -> bool:
        """Tell whether a part of a command has come; the rest has TIMEOUT_S, then the connection ends."""
        return bool(self._input)

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> list[Action]:
        """Return what to do about *data*, with which the files *fds* came; an `Attach` names what is kept."""
        if self._transfer is not None:
            return self._go_on(data)
        self._input += data
        size = _size(self._input)
        if len(self._input) < min(size, _INPUT):
            return []
        message, self._input = self._input, b""
        try:
            return self._run(int.from_bytes(message[:_CODE], "big"), message[_CODE:], fds)
        except TpmError as error:
            reply = _S.res.pack(error.rc)
            return [reply] if len(message) >= size else [reply, Hangup()]

    def eof(self) -> list[Action]:
        """Return what to do when the client sends nothing any more."""
        if self._transfer is None:
            return []
        return [_S.res.pack(self._transfer.cut_short)]

    def _run(self, code: int, body: bytes, fds: Sequence[int]) -> list[Action]:
        rule = _RULES.get(code)
        if rule is None or (rule.running is not None and rule.running != self._control.machine.running):
            raise TpmError(abi.TPM_BAD_ORDINAL)
        if len(body) < rule.size or (rule.exact and len(body) > rule.size):
            raise TpmError(abi.TPM_BAD_PARAMETER)
        if code == abi.CMD_SET_DATAFD:
            return self._set_datafd(fds)
        if code == abi.CMD_HASH_DATA:
            return self._hash_data(body)
        if code == abi.CMD_SET_STATEBLOB:
            return self._set_stateblob(body)
        assert rule.run is not None
        reply = rule.run(self._control, body)
        return [reply, End()] if code == abi.CMD_SHUTDOWN else [reply]

    def _set_datafd(self, fds: Sequence[int]) -> list[Action]:
        if self._control.data_taken():
            raise TpmError(abi.TPM_IOERROR)
        if not fds:
            raise TpmError(abi.TPM_BAD_PARAMETER)
        return [Attach(fds[0]), _SUCCESS]

    def _hash_data(self, body: bytes) -> list[Action]:
        (size,) = _S.hdata.unpack_from(body)
        transfer = _Transfer(self._control.hash_data, lambda: None, abi.TPM_IOERROR)
        return self._begin(transfer, size, body[_S.hdata.size :])

    def _set_stateblob(self, body: bytes) -> list[Action]:
        flags, kind, size = _S.setstate.unpack_from(body)
        if size > abi.MAX_STATE_BLOB:
            raise TpmError(abi.TPM_FAIL)
        pieces: list[bytes] = []
        encrypted = bool(flags & abi.PTM_STATE_FLAG_ENCRYPTED)

        def end() -> None:
            self._control.set_stateblob(kind, b"".join(pieces), encrypted=encrypted)

        transfer = _Transfer(pieces.append, end, abi.TPM_BAD_PARAMETER)
        return self._begin(transfer, size, body[_S.setstate.size :])

    def _begin(self, transfer: _Transfer, size: int, data: bytes) -> list[Action]:
        if len(data) > size:
            raise TpmError(abi.TPM_BAD_PARAMETER)
        self._transfer, self._rest = transfer, size
        return self._go_on(data)

    def _go_on(self, data: bytes) -> list[Action]:
        assert self._transfer is not None
        try:
            if len(data) > self._rest:
                raise TpmError(abi.TPM_BAD_PARAMETER)
            self._rest -= len(data)
            self._transfer.take(data)
            if self._rest:
                return []
            self._transfer.end()
        except TpmError as error:
            self._transfer = None
            reply = _S.res.pack(error.rc)
            return [reply, Hangup()] if self._rest else [reply]
        self._transfer = None
        return [_SUCCESS]


class _Rule(NamedTuple):
    """What is checked of a control command before it runs, and what it makes of its body."""

    run: Callable[[Control, bytes], bytes] | None  # None for what takes more than a body
    size: int = 0  # octets of the body, at least
    exact: bool = True  # and no more
    awaited: bool = False  # the body may come later than the code
    running: bool | None = None  # the power that the TPM has to have; checked before the size


def _bare(action: Callable[[Control], None]) -> Callable[[Control, bytes], bytes]:
    """Return how to run a command that has neither arguments nor results."""

    def run(control: Control, _body: bytes) -> bytes:
        action(control)
        return _SUCCESS

    return run


def _get_capability(control: Control, _body: bytes) -> bytes:
    return _S.cap_n.pack(abi.TPM_SUCCESS, control.capabilities())


def _init(control: Control, body: bytes) -> bytes:
    control.init(_S.init.unpack(body)[0])
    return _SUCCESS


def _get_tpmestablished(control: Control, _body: bytes) -> bytes:
    return _S.est.pack(abi.TPM_SUCCESS, control.get_tpmestablished())


def _set_locality(control: Control, body: bytes) -> bytes:
    control.set_locality(body[0])
    return _SUCCESS


def _reset_tpmestablished(control: Control, body: bytes) -> bytes:
    control.reset_tpmestablished(body[0])
    return _SUCCESS


def _get_stateblob(control: Control, body: bytes) -> bytes:
    flags, kind, offset = _S.getstate.unpack_from(body)
    try:
        octets, encrypted = control.get_stateblob(kind, decrypted=bool(flags & abi.PTM_STATE_FLAG_DECRYPTED))
    except TpmError as error:
        # This refusal has the form of a reply, for clients that read all of it before they look.
        return _S.getstate_resp.pack(error.rc, 0, 0, 0)
    finally:
        control.stateblob_fetched(kind)
    rest = octets[offset:]
    return _S.getstate_resp.pack(abi.TPM_SUCCESS, abi.PTM_STATE_FLAG_ENCRYPTED if encrypted else 0,
                                 len(rest), len(rest)) + rest


def _get_config(control: Control, _body: bytes) -> bytes:
    return _S.getconfig.pack(abi.TPM_SUCCESS, control.get_config())


def _set_buffersize(control: Control, body: bytes) -> bytes:
    (wanted,) = _S.setbuffersize.unpack_from(body)
    return _S.setbuffersize_resp.pack(abi.TPM_SUCCESS, *control.set_buffersize(wanted))


def _get_info(control: Control, body: bytes) -> bytes:
    flags, offset, _ = _S.getinfo.unpack_from(body)
    text = control.get_info(flags)
    if offset >= len(text) - 1:
        raise TpmError(abi.TPM_BAD_PARAMETER)
    part = text[offset : offset + abi.PTM_GETINFO_SIZE]
    return _S.getinfo_resp.pack(abi.TPM_SUCCESS, len(text), len(part)) + part


def _lock_storage(control: Control, body: bytes) -> bytes:
    control.lock_storage(_S.lockstorage.unpack_from(body)[0])
    return _SUCCESS


_RULES: Final = {
    abi.CMD_GET_CAPABILITY: _Rule(_get_capability, exact=False),
    abi.CMD_INIT: _Rule(_init, _S.init.size, awaited=True),
    abi.CMD_SHUTDOWN: _Rule(_bare(Control.stop)),
    abi.CMD_GET_TPMESTABLISHED: _Rule(_get_tpmestablished, running=True),
    abi.CMD_SET_LOCALITY: _Rule(_set_locality, _S.loc.size, exact=False, awaited=True),
    abi.CMD_HASH_START: _Rule(_bare(Control.hash_start), running=True),
    abi.CMD_HASH_DATA: _Rule(None, _S.hdata.size, exact=False, awaited=True, running=True),
    abi.CMD_HASH_END: _Rule(_bare(Control.hash_end), running=True),
    abi.CMD_CANCEL_TPM_CMD: _Rule(_bare(Control.cancel_tpm_cmd), running=True),
    abi.CMD_STORE_VOLATILE: _Rule(_bare(Control.store_volatile), running=True),
    abi.CMD_RESET_TPMESTABLISHED: _Rule(_reset_tpmestablished, _S.loc.size, exact=False, awaited=True,
                                        running=True),
    abi.CMD_GET_STATEBLOB: _Rule(_get_stateblob, _S.getstate.size, exact=False, awaited=True, running=True),
    abi.CMD_SET_STATEBLOB: _Rule(None, _S.setstate.size, exact=False, awaited=True, running=False),
    abi.CMD_STOP: _Rule(_bare(Control.stop)),
    abi.CMD_GET_CONFIG: _Rule(_get_config),
    abi.CMD_SET_DATAFD: _Rule(None, exact=False),
    abi.CMD_SET_BUFFERSIZE: _Rule(_set_buffersize, _S.setbuffersize.size, exact=False),
    abi.CMD_GET_INFO: _Rule(_get_info, _S.getinfo.size, exact=False),
    abi.CMD_LOCK_STORAGE: _Rule(_lock_storage, _S.lockstorage.size, exact=False),
}
_STREAMED: Final = frozenset({abi.CMD_HASH_DATA, abi.CMD_SET_STATEBLOB})


def _size(message: bytes) -> int:
    """Return how long the command that begins with *message* is, as far as *message* tells, in octets."""
    if len(message) < _CODE:
        return _CODE
    code = int.from_bytes(message[:_CODE], "big")
    rule = _RULES.get(code)
    if rule is None or not rule.awaited:
        return _CODE
    end = _CODE + rule.size
    if code in _STREAMED and len(message) >= end:
        # The size of the data is the last member before them.
        return end + int.from_bytes(message[end - 4 : end], "big")
    return end
