"""libtpms, the TPM inside swtpm, in a process that can be forked to return to a state.

swtpm needs 0.13 s to take back a state, nearly all of it for libtpms' tests at power-on; a fork takes 1 ms.
This file is also the program of that process, which imports nothing else so that forks stay cheap.  It takes
requests from a SOCK_SEQPACKET socket whose descriptor is its argument: an octet that says which, and data.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_ubyte, c_uint32, c_void_p

EXECUTE, LOCALITY, POWER_CYCLE, FORK = b"E", b"L", b"P", b"F"
READY = b"ready"
MOST = 4096  # octets of a command and of a response
_SECONDS = 10  # of the processor that a process may use; making a key takes far less than one
_RETRY, _FAIL = 0x800, 9  # what libtpms wants to be told of a missing file, and of a failure
_INIT = CFUNCTYPE(c_uint32)
_LOAD = CFUNCTYPE(c_uint32, POINTER(c_void_p), POINTER(c_uint32), c_uint32, c_char_p)
_STORE = CFUNCTYPE(c_uint32, c_void_p, c_uint32, c_uint32, c_char_p)
_DELETE = CFUNCTYPE(c_uint32, c_uint32, c_char_p, c_ubyte)
_GET_LOCALITY = CFUNCTYPE(c_uint32, POINTER(c_uint32), c_uint32)


class _Callbacks(ctypes.Structure):
    """libtpms' struct libtpms_callbacks (libtpms/tpm_library.h); physical presence keeps its default."""

    _fields_ = [("size", c_int), ("nvram_init", _INIT), ("load", _LOAD), ("store", _STORE),
                ("delete", _DELETE), ("io_init", _INIT), ("locality", _GET_LOCALITY), ("presence", c_void_p)]


class Libtpms:
    """A TPM 1.2 with power and without Startup, whose files are in memory.

    RuntimeError where there is no libtpms or where it has none.
    """

    def __init__(self) -> None:
        self.locality = 0
        self._files: dict[bytes, bytes] = {}
        self._libc = ctypes.CDLL(None)
        self._libc.malloc.restype = c_void_p
        try:
            self._library = ctypes.CDLL("libtpms.so.0")
        except OSError:
            raise RuntimeError("libtpms.so.0 is not installed") from None
        # libtpms keeps the pointers.
        self._callbacks = _Callbacks(
            ctypes.sizeof(_Callbacks), _INIT(int), _LOAD(self._load), _STORE(self._store),
            _DELETE(self._delete), _INIT(int), _GET_LOCALITY(self._get_locality), None)
        if self._library.TPMLIB_ChooseTPMVersion(0):
            raise RuntimeError("this libtpms has no TPM 1.2")
        self._succeed(self._library.TPMLIB_RegisterCallbacks(ctypes.byref(self._callbacks)))
        self._succeed(self._library.TPMLIB_MainInit())
        self._response, self._size, self._room = c_void_p(), c_uint32(), c_uint32()

    def power_cycle(self) -> None:
        self._library.TPMLIB_Terminate()
        self._succeed(self._library.TPMLIB_MainInit())

    def execute(self, command: bytes) -> bytes:
        self._succeed(self._library.TPMLIB_Process(
            ctypes.byref(self._response), ctypes.byref(self._size), ctypes.byref(self._room), command,
            len(command)))
        return ctypes.string_at(self._response, self._size.value)

    @staticmethod
    def _succeed(rc: int) -> None:
        if rc:
            raise RuntimeError(f"libtpms returns 0x{rc:x}")

    def _load(self, data: ctypes._Pointer[c_void_p], length: ctypes._Pointer[c_uint32], number: int,
              name: bytes) -> int:
        found = self._files.get(name)
        if found is None:
            return _RETRY
        data[0] = self._libc.malloc(len(found))  # libtpms frees it
        ctypes.memmove(data[0], found, len(found))
        length[0] = len(found)
        return 0

    def _store(self, data: int, length: int, number: int, name: bytes) -> int:
        self._files[name] = ctypes.string_at(data, length)
        return 0

    def _delete(self, number: int, name: bytes, must_exist: int) -> int:
        return _FAIL if self._files.pop(name, None) is None and must_exist else 0

    def _get_locality(self, found: ctypes._Pointer[c_uint32], number: int) -> int:
        found[0] = self.locality
        return 0


def serve(tpm: Libtpms, end: socket.socket) -> None:
    """Say READY and answer requests, until the other end is closed.

    FORK comes with the descriptor of a socket, which a copy of this process serves from then on.  A process
    that does not come to an end is killed: libtpms would look for the primes of a key of 16 million bits.
    """
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    end.send(READY)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the copies
    while True:
        request, descriptors, _, _ = socket.recv_fds(end, 1 + MOST, 1)
        kind, data = request[:1], request[1:]
        if kind == EXECUTE:
            end.send(tpm.execute(data))
        elif kind == LOCALITY:
            tpm.locality = data[0]
        elif kind == POWER_CYCLE:
            tpm.power_cycle()
            end.send(b"\0")
        elif kind == FORK:
            with socket.socket(fileno=descriptors[0]) as other:
                if os.fork() == 0:
                    end.close()
                    end = other.dup()
        else:
            os._exit(0)


def main() -> None:
    """Serve the socket of the argument, or say there why not."""
    with socket.socket(fileno=int(sys.argv[1])) as end:
        try:
            tpm = Libtpms()
        except RuntimeError as error:
            end.send(str(error).encode())
        else:
            serve(tpm, end)


if __name__ == "__main__":
    main()
