"""NV storage and DIR commands (Part 3, 20 and 27.3).

Until nvLocked is TRUE the manufacturer is at work: authorizations, locks and presence are not asked for.
"""

from __future__ import annotations

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize, authorize_owner, check_pcr_info, close_bound, decrypt_auth
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.nv import (
    DirRead,
    DirReadResponse,
    DirWriteAuth,
    NVDefineSpace,
    NVReadResponse,
    NVReadValue,
    NVReadValueAuth,
    NVWriteValue,
    NVWriteValueAuth,
)
from hwtpm.tpm12.state.nv import Area
from hwtpm.tpm12.types.base import TPM_DIGEST_SIZE
from hwtpm.tpm12.types.codes import (
    TPM_AREA_LOCKED,
    TPM_AUTH_CONFLICT,
    TPM_BAD_DATASIZE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PRESENCE,
    TPM_BADINDEX,
    TPM_DEACTIVATED,
    TPM_DISABLED,
    TPM_DISABLED_CMD,
    TPM_NOSPACE,
    TPM_NOT_FULLWRITE,
    TPM_OWNER_SET,
    TPM_PER_NOWRITE,
)
from hwtpm.tpm12.types.constants import (
    TPM_ET_NV,
    TPM_NV_INDEX0,
    TPM_NV_INDEX_D_BIT,
    TPM_NV_INDEX_DIR,
    TPM_NV_INDEX_LOCK,
    TPM_NV_INDEX_TRIAL,
    TPM_NV_PER_AUTHREAD,
    TPM_NV_PER_AUTHWRITE,
    TPM_NV_PER_GLOBALLOCK,
    TPM_NV_PER_OWNERREAD,
    TPM_NV_PER_OWNERWRITE,
    TPM_NV_PER_PPREAD,
    TPM_NV_PER_PPWRITE,
    TPM_NV_PER_READ_STCLEAR,
    TPM_NV_PER_WRITE_STCLEAR,
    TPM_NV_PER_WRITEALL,
    TPM_NV_PER_WRITEDEFINE,
    TPM_PID_OSAP,
)
from hwtpm.tpm12.types.nv import TPM_NV_DATA_PUBLIC

_RESERVED_BITS = 0x0F000000
_ALL_LOCALITIES = 0x1F


@handles
def nv_define_space(tpm: Tpm, call: Call, cmd: NVDefineSpace) -> Empty:
    """The area is defined, or, with a size of zero, gone; or nvLocked is TRUE.  Part 3, 20.1."""
    # Input Validation
    public = cmd.pub_info
    authorized = bool(call.authorizations)
    if public.nv_index == TPM_NV_INDEX_LOCK and not authorized:
        if public.data_size:
            raise TpmError(TPM_BADINDEX)
        tpm.flags.set(nv_locked=True)
        return Empty()
    locked = bool(tpm.flags.permanent.nv_locked)
    if public.nv_index == TPM_NV_INDEX0 or (locked and public.nv_index & TPM_NV_INDEX_D_BIT):
        raise TpmError(TPM_BADINDEX)
    auth_value = cmd.enc_auth
    writes = tpm.permanent.no_owner_nv_write
    if authorized:
        auth_value = decrypt_auth(authorize_owner(tpm, call, protocol=TPM_PID_OSAP), cmd.enc_auth)
    else:
        if locked:
            _require_nobody_but_presence(tpm, public)
        writes = tpm.permanent.next_nv_write()
    old = tpm.nv.areas.get(public.nv_index)
    if old is not None and locked:
        _check_definition_locks(tpm, old)
    # A size of zero only deletes.
    delete = old is not None and not public.data_size
    if not delete:
        _check_attributes(public)
        tpm.nv.require_space(public.data_size, old)
    # Internal Data Update
    if old is not None:
        # A session for the area that is replaced ends, be it the command's own.
        close_bound(tpm, call, TPM_ET_NV, old.digest)
        tpm.nv.undefine(public.nv_index)
    # The trial index only tells whether an area could be defined (Part 2, 19.1.2).
    if not delete and public.nv_index != TPM_NV_INDEX_TRIAL:
        tpm.nv.define(TPM_NV_DATA_PUBLIC(
            public.nv_index, public.pcr_info_read, public.pcr_info_write, public.permission, 0, 0, 0,
            public.data_size), auth_value)
    tpm.permanent.count_nv_writes(writes)
    # Command Output
    if authorized:
        call.authorizations[0].continues = 0  # it carried a secret
    return Empty()


def _require_nobody_but_presence(tpm: Tpm, public: TPM_NV_DATA_PUBLIC) -> None:
    """Somebody is present and there is no owner, so that an area can be defined without authorization."""
    if not tpm.flags.physical_presence:
        raise TpmError(TPM_BAD_PRESENCE)
    if tpm.permanent.owner_installed:
        raise TpmError(TPM_OWNER_SET)
    if not public.data_size:
        raise TpmError(TPM_BAD_DATASIZE)


def _check_definition_locks(tpm: Tpm, old: Area) -> None:
    if old.attributes & TPM_NV_PER_GLOBALLOCK and tpm.flags.stclear.b_global_lock:
        raise TpmError(TPM_AREA_LOCKED)
    if old.attributes & TPM_NV_PER_WRITE_STCLEAR and old.public.b_write_stclear:
        raise TpmError(TPM_AREA_LOCKED)


def _check_attributes(public: TPM_NV_DATA_PUBLIC) -> None:
    """The description of a new area is consistent (Part 3, 20.1)."""
    attributes = public.permission.attributes
    if attributes & TPM_NV_PER_OWNERWRITE and attributes & TPM_NV_PER_AUTHWRITE:
        raise TpmError(TPM_AUTH_CONFLICT)
    if attributes & TPM_NV_PER_OWNERREAD and attributes & TPM_NV_PER_AUTHREAD:
        raise TpmError(TPM_AUTH_CONFLICT)
    someone = TPM_NV_PER_OWNERWRITE | TPM_NV_PER_AUTHWRITE | TPM_NV_PER_WRITEDEFINE | TPM_NV_PER_PPWRITE
    if not attributes & someone and public.pcr_info_write.locality_at_release == _ALL_LOCALITIES:
        raise TpmError(TPM_PER_NOWRITE)
    reserved = public.nv_index in (TPM_NV_INDEX_LOCK, TPM_NV_INDEX_DIR) or public.nv_index & _RESERVED_BITS
    if reserved:
        raise TpmError(TPM_BADINDEX)
    if not public.data_size:
        raise TpmError(TPM_BAD_PARAM_SIZE)


@handles
def nv_write_value(tpm: Tpm, call: Call, cmd: NVWriteValue) -> Empty:
    """The area holds the data, or is locked, or, at index 0, all areas that are globally lockable are.

    Part 3, 20.2.
    """
    # Input Validation
    locked, authorized = bool(tpm.flags.permanent.nv_locked), bool(call.authorizations)
    everything, directory = cmd.nv_index == TPM_NV_INDEX0, cmd.nv_index == TPM_NV_INDEX_DIR
    area = None if everything or directory else tpm.nv.get(cmd.nv_index)
    attributes = area.attributes if area is not None else TPM_NV_PER_OWNERWRITE if directory else 0
    if locked and attributes & TPM_NV_PER_OWNERWRITE:
        _require_enabled(tpm)
    writes = tpm.permanent.no_owner_nv_write
    if authorized:
        if not everything and not attributes & TPM_NV_PER_OWNERWRITE:
            raise TpmError(TPM_AUTH_CONFLICT)
        authorize_owner(tpm, call)
    elif not everything:
        if locked and attributes & TPM_NV_PER_OWNERWRITE:
            raise TpmError(TPM_AUTH_CONFLICT)
        if not tpm.permanent.owner_installed:
            writes = tpm.permanent.next_nv_write()
    if everything and cmd.data:
        raise TpmError(TPM_BADINDEX)
    if attributes & TPM_NV_PER_AUTHWRITE:
        raise TpmError(TPM_AUTH_CONFLICT)
    if directory and cmd.data and (cmd.offset or len(cmd.data) != TPM_DIGEST_SIZE):
        raise TpmError(TPM_NOT_FULLWRITE)
    if area is not None:
        if locked:
            _check_presence(tpm, area, TPM_NV_PER_PPWRITE)
            _check_write_locks(tpm, area)
            check_pcr_info(tpm, area.public.pcr_info_write)
        _check_extent(area, cmd.offset, cmd.data)
    # Internal Data Update
    if everything:
        tpm.flags.stclear.b_global_lock = 1
    elif area is not None:
        if _write(tpm, area, cmd.offset, cmd.data):
            tpm.permanent.count_nv_writes(writes)
    elif cmd.data and tpm.nv.write_dir(cmd.data):
        tpm.permanent.count_nv_writes(writes)
    # Command Output
    return Empty()


def _require_enabled(tpm: Tpm) -> None:
    if tpm.flags.permanent.disable:
        raise TpmError(TPM_DISABLED)
    if tpm.flags.stclear.deactivated:
        raise TpmError(TPM_DEACTIVATED)


def _check_presence(tpm: Tpm, area: Area, attribute: int) -> None:
    if area.attributes & attribute and not tpm.flags.physical_presence:
        raise TpmError(TPM_BAD_PRESENCE)


def _check_write_locks(tpm: Tpm, area: Area) -> None:
    public = area.public
    for attribute, lock in ((TPM_NV_PER_WRITEDEFINE, public.b_write_define),
                            (TPM_NV_PER_GLOBALLOCK, tpm.flags.stclear.b_global_lock),
                            (TPM_NV_PER_WRITE_STCLEAR, public.b_write_stclear)):
        if area.attributes & attribute and lock:
            raise TpmError(TPM_AREA_LOCKED)


def _check_extent(area: Area, offset: int, data: bytes) -> None:
    if not data:
        return
    if offset + len(data) > area.public.data_size:
        raise TpmError(TPM_NOSPACE)
    if area.attributes & TPM_NV_PER_WRITEALL and len(data) != area.public.data_size:
        raise TpmError(TPM_NOT_FULLWRITE)


def _write(tpm: Tpm, area: Area, offset: int, data: bytes) -> bool:
    """The area holds *data*, or is locked by none; it can be read again.  Tell whether NV has changed."""
    area.public.b_read_stclear = 0
    if data:
        return tpm.nv.write(area, offset, data)
    area.public.b_write_stclear = 1
    return tpm.nv.lock_definition(area)


@handles
def nv_write_value_auth(tpm: Tpm, call: Call, cmd: NVWriteValueAuth) -> Empty:
    """The area holds the data, or is locked by none.  Part 3, 20.3."""
    # Input Validation
    area = tpm.nv.get(cmd.nv_index)
    if not area.attributes & TPM_NV_PER_AUTHWRITE:
        raise TpmError(TPM_AUTH_CONFLICT)
    authorize(tpm, call, 0, TPM_ET_NV, area.auth_value, area.digest)
    _check_presence(tpm, area, TPM_NV_PER_PPWRITE)
    check_pcr_info(tpm, area.public.pcr_info_write)
    _check_write_locks(tpm, area)
    _check_extent(area, cmd.offset, cmd.data)
    # Internal Data Update
    _write(tpm, area, cmd.offset, cmd.data)
    # Command Output
    return Empty()


@handles
def nv_read_value(tpm: Tpm, call: Call, cmd: NVReadValue) -> NVReadResponse:
    """Data of the area are returned; a size of zero locks it for reading.  Part 3, 20.4."""
    # Input Validation
    locked, authorized = bool(tpm.flags.permanent.nv_locked), bool(call.authorizations)
    if cmd.nv_index == TPM_NV_INDEX_DIR:
        if authorized:
            authorize_owner(tpm, call)
        if cmd.offset + cmd.data_size > TPM_DIGEST_SIZE:
            raise TpmError(TPM_NOSPACE)
        return NVReadResponse(tpm.nv.auth_dir[cmd.offset : cmd.offset + cmd.data_size])
    area = tpm.nv.get(cmd.nv_index)
    if locked and area.attributes & TPM_NV_PER_OWNERREAD:
        _require_enabled(tpm)
    if authorized:
        if not area.attributes & TPM_NV_PER_OWNERREAD:
            raise TpmError(TPM_AUTH_CONFLICT)
        authorize_owner(tpm, call)
    elif area.attributes & TPM_NV_PER_AUTHREAD or (locked and area.attributes & TPM_NV_PER_OWNERREAD):
        raise TpmError(TPM_AUTH_CONFLICT)
    if locked:
        _check_presence(tpm, area, TPM_NV_PER_PPREAD)
        _check_read_lock(area)
        check_pcr_info(tpm, area.public.pcr_info_read)
    # Command Output
    return _read(area, cmd.offset, cmd.data_size)


def _check_read_lock(area: Area) -> None:
    if area.attributes & TPM_NV_PER_READ_STCLEAR and area.public.b_read_stclear:
        raise TpmError(TPM_DISABLED_CMD)


def _read(area: Area, offset: int, size: int) -> NVReadResponse:
    if offset + size > area.public.data_size and size:
        raise TpmError(TPM_NOSPACE)
    if not size:
        area.public.b_read_stclear = 1
    return NVReadResponse(area.data[offset : offset + size])


@handles
def nv_read_value_auth(tpm: Tpm, call: Call, cmd: NVReadValueAuth) -> NVReadResponse:
    """Data of the area are returned; a size of zero locks it for reading.  Part 3, 20.5."""
    # Input Validation
    area = tpm.nv.get(cmd.nv_index)
    if not area.attributes & TPM_NV_PER_AUTHREAD:
        raise TpmError(TPM_AUTH_CONFLICT)
    authorize(tpm, call, 0, TPM_ET_NV, area.auth_value, area.digest)
    _check_presence(tpm, area, TPM_NV_PER_PPREAD)
    check_pcr_info(tpm, area.public.pcr_info_read)
    _check_read_lock(area)
    # Command Output
    return _read(area, cmd.offset, cmd.data_size)


@handles
def dir_write_auth(tpm: Tpm, call: Call, cmd: DirWriteAuth) -> Empty:
    """The DIR has a new value.  Part 3, 27.3.1."""
    # Input Validation
    authorize_owner(tpm, call)
    if cmd.dir_index:
        raise TpmError(TPM_BADINDEX)
    # Internal Data Update
    tpm.nv.write_dir(cmd.new_contents)
    # Command Output
    return Empty()


@handles
def dir_read(tpm: Tpm, call: Call, cmd: DirRead) -> DirReadResponse:
    """The value of the DIR is returned.  Part 3, 27.3.2."""
    # Input Validation
    if cmd.dir_index:
        raise TpmError(TPM_BADINDEX)
    # Command Output
    return DirReadResponse(tpm.nv.auth_dir)
