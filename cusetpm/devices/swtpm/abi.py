"""The numbers and structures of swtpm's control channel, and of the header that may precede a command.

Names are those of swtpm's include/swtpm/tpm_ioctl.h.  The same structures travel in two ways: over a socket
after a UINT32 CMD_ code, big-endian; and as the argument of an ioctl on a CUSE device, in the machine's byte
order.  `structures` gives them in either.
"""

from __future__ import annotations

import sys
from functools import cache
from struct import Struct
from typing import Final, Literal, NamedTuple, TypeAlias

BIG_ENDIAN: Final = ">"
HOST_ENDIAN: Final = "<" if sys.byteorder == "little" else ">"

# Commands over a socket.

CMD_GET_CAPABILITY: Final = 0x01
CMD_INIT: Final = 0x02
CMD_SHUTDOWN: Final = 0x03
CMD_GET_TPMESTABLISHED: Final = 0x04
CMD_SET_LOCALITY: Final = 0x05
CMD_HASH_START: Final = 0x06
CMD_HASH_DATA: Final = 0x07
CMD_HASH_END: Final = 0x08
CMD_CANCEL_TPM_CMD: Final = 0x09
CMD_STORE_VOLATILE: Final = 0x0A
CMD_RESET_TPMESTABLISHED: Final = 0x0B
CMD_GET_STATEBLOB: Final = 0x0C
CMD_SET_STATEBLOB: Final = 0x0D
CMD_STOP: Final = 0x0E
CMD_GET_CONFIG: Final = 0x0F
CMD_SET_DATAFD: Final = 0x10
CMD_SET_BUFFERSIZE: Final = 0x11
CMD_GET_INFO: Final = 0x12
CMD_LOCK_STORAGE: Final = 0x13

# Sizes in octets of what the fixed structures hold.

PTM_HASH_DATA_SIZE: Final = 4096
PTM_STATE_BLOB_SIZE: Final = 3 * 1024
PTM_GETINFO_SIZE: Final = 3 * 1024

# The same commands as ioctls of Linux: the number is that of the command less one, the size that of the
# larger half of the union that both directions share.

_IOC_WRITE: Final = 1
_IOC_READ: Final = 2


def _ioc(direction: int, command: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("P") << 8 | command - 1


PTM_GET_CAPABILITY: Final = _ioc(_IOC_READ, CMD_GET_CAPABILITY, 8)
PTM_INIT: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_INIT, 4)
PTM_SHUTDOWN: Final = _ioc(_IOC_READ, CMD_SHUTDOWN, 4)
PTM_GET_TPMESTABLISHED: Final = _ioc(_IOC_READ, CMD_GET_TPMESTABLISHED, 8)
PTM_SET_LOCALITY: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_SET_LOCALITY, 4)
PTM_HASH_START: Final = _ioc(_IOC_READ, CMD_HASH_START, 4)
PTM_HASH_DATA: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_HASH_DATA, 4 + PTM_HASH_DATA_SIZE)
PTM_HASH_END: Final = _ioc(_IOC_READ, CMD_HASH_END, 4)
PTM_CANCEL_TPM_CMD: Final = _ioc(_IOC_READ, CMD_CANCEL_TPM_CMD, 4)
PTM_STORE_VOLATILE: Final = _ioc(_IOC_READ, CMD_STORE_VOLATILE, 4)
PTM_RESET_TPMESTABLISHED: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_RESET_TPMESTABLISHED, 4)
PTM_GET_STATEBLOB: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_GET_STATEBLOB, 16 + PTM_STATE_BLOB_SIZE)
PTM_SET_STATEBLOB: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_SET_STATEBLOB, 12 + PTM_STATE_BLOB_SIZE)
PTM_STOP: Final = _ioc(_IOC_READ, CMD_STOP, 4)
PTM_GET_CONFIG: Final = _ioc(_IOC_READ, CMD_GET_CONFIG, 8)
PTM_SET_DATAFD: Final = _ioc(_IOC_READ, CMD_SET_DATAFD, 4)
PTM_SET_BUFFERSIZE: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_SET_BUFFERSIZE, 16)
PTM_GET_INFO: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_GET_INFO, 16 + PTM_GETINFO_SIZE)
"""12 octets and the text, filled up to a multiple of the 8 octets of its first member."""
PTM_LOCK_STORAGE: Final = _ioc(_IOC_READ | _IOC_WRITE, CMD_LOCK_STORAGE, 4)

# Capabilities.

PTM_CAP_INIT: Final = 1 << 0
PTM_CAP_SHUTDOWN: Final = 1 << 1
PTM_CAP_GET_TPMESTABLISHED: Final = 1 << 2
PTM_CAP_SET_LOCALITY: Final = 1 << 3
PTM_CAP_HASHING: Final = 1 << 4
PTM_CAP_CANCEL_TPM_CMD: Final = 1 << 5
PTM_CAP_STORE_VOLATILE: Final = 1 << 6
PTM_CAP_RESET_TPMESTABLISHED: Final = 1 << 7
PTM_CAP_GET_STATEBLOB: Final = 1 << 8
PTM_CAP_SET_STATEBLOB: Final = 1 << 9
PTM_CAP_STOP: Final = 1 << 10
PTM_CAP_GET_CONFIG: Final = 1 << 11
PTM_CAP_SET_DATAFD: Final = 1 << 12
PTM_CAP_SET_BUFFERSIZE: Final = 1 << 13
PTM_CAP_GET_INFO: Final = 1 << 14
PTM_CAP_SEND_COMMAND_HEADER: Final = 1 << 15
PTM_CAP_LOCK_STORAGE: Final = 1 << 16

# Flags and types.

PTM_INIT_FLAG_DELETE_VOLATILE: Final = 1 << 0
"""The stored volatile state is deleted once it has been read."""

BlobType: TypeAlias = Literal[1, 2, 3]
PTM_BLOB_TYPE_PERMANENT: Final = 1
PTM_BLOB_TYPE_VOLATILE: Final = 2
PTM_BLOB_TYPE_SAVESTATE: Final = 3

PTM_STATE_FLAG_DECRYPTED: Final = 1  # in a request
PTM_STATE_FLAG_ENCRYPTED: Final = 2  # in a response, and in a request that sets a state

PTM_CONFIG_FLAG_FILE_KEY: Final = 1
PTM_CONFIG_FLAG_MIGRATION_KEY: Final = 2

SWTPM_INFO_TPMSPECIFICATION: Final = 1 << 0
SWTPM_INFO_TPMATTRIBUTES: Final = 1 << 1
SWTPM_INFO_TPMFEATURES: Final = 1 << 2

MAX_STATE_BLOB: Final = 512 * 1024
"""The largest blob that is taken, in octets."""

# Results: response codes of TPM 1.2 for either family (TPM Main Part 2, 16).

TPM_SUCCESS: Final = 0x00
TPM_BAD_PARAMETER: Final = 0x03
TPM_FAIL: Final = 0x09
TPM_BAD_ORDINAL: Final = 0x0A
TPM_KEYNOTFOUND: Final = 0x0D
TPM_SIZE: Final = 0x11
TPM_IOERROR: Final = 0x1F
TPM_DECRYPT_ERROR: Final = 0x21
TPM_BAD_KEY_PROPERTY: Final = 0x28
TPM_BAD_DATASIZE: Final = 0x2B
TPM_BAD_VERSION: Final = 0x2E
TPM_BAD_TYPE: Final = 0x34
TPM_BAD_LOCALITY: Final = 0x3D
TPM_RETRY: Final = 0x800
"""There is no such state; to clients that is no error."""

# Structures.

class Structures(NamedTuple):
    """The requests and responses in one byte order; every response begins with its result."""

    res: Struct
    cap_n: Struct  # result, capabilities; over a socket
    cap: Struct  # capabilities alone, and without a result; of the ioctl
    est: Struct  # result, bit, three octets of padding
    loc: Struct  # locality; three octets of padding are not required
    init: Struct  # flags
    hdata: Struct  # size of the data that follow
    getstate: Struct  # flags, type, offset
    getstate_resp: Struct  # result, flags, size of all that is left, size of the data that follow
    setstate: Struct  # flags, type, size of the data that follow
    getconfig: Struct  # result, flags
    setbuffersize: Struct  # size
    setbuffersize_resp: Struct  # result, size in use, smallest, largest
    getinfo: Struct  # flags, offset, padding
    getinfo_resp: Struct  # result, size of the whole text, size of the text that follows
    lockstorage: Struct  # retries


@cache
def structures(order: str) -> Structures:
    """Return the structures in byte order BIG_ENDIAN or HOST_ENDIAN."""
    formats = ("I", "II", "Q", "IB3x", "B", "I", "I", "III", "IIII", "III", "II", "I", "IIII", "QII", "III",
               "I")
    return Structures(*(Struct(order + form) for form in formats))


# The header that the TCG's simulator puts before a command and a response (`struct tpm2_send_command_prefix`
# and `tpm2_resp_prefix`), big-endian.

TPM2_SEND_COMMAND: Final = 8
SEND_COMMAND_PREFIX: Final = Struct(">IBI")
"""TPM2_SEND_COMMAND, locality, size of the command that follows."""
RESP_PREFIX: Final = Struct(">I")
"""The size of the response that follows; after it comes a UINT32 of zero."""

TPM2_CC_SET_LOCALITY: Final = 0x20001000
"""A command of Linux' vtpm-proxy that sets the locality of those after it: its only parameter, a UINT8."""
