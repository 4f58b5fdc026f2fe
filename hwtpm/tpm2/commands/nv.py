"""Non-volatile storage (Part 3, 31)."""

from __future__ import annotations

from typing import Final

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.profile import MAX_NV_BUFFER_SIZE, MAX_NV_INDEX_SIZE
from hwtpm.tpm2.requests.command import Empty
from hwtpm.tpm2.requests.nv import (
    NVChangeAuth,
    NVDefineSpace,
    NVDefineSpace2,
    NVExtend,
    NVGlobalWriteLock,
    NVIncrement,
    NVRead,
    NVReadLock,
    NVReadPublic,
    NVReadPublic2,
    NVReadPublic2Response,
    NVReadPublicResponse,
    NVReadResponse,
    NVSetBits,
    NVUndefineSpace,
    NVUndefineSpaceSpecial,
    NVWrite,
    NVWriteLock,
)
from hwtpm.tpm2.state.nv import NvIndex
from hwtpm.tpm2.types.attributes import (
    TPM_NT_BITS,
    TPM_NT_COUNTER,
    TPM_NT_EXTEND,
    TPM_NT_ORDINARY,
    TPM_NT_PIN_FAIL,
    TPM_NT_PIN_PASS,
    TPMA_NV_AUTHREAD,
    TPMA_NV_AUTHWRITE,
    TPMA_NV_CLEAR_STCLEAR,
    TPMA_NV_GLOBALLOCK,
    TPMA_NV_NO_DA,
    TPMA_NV_OWNERREAD,
    TPMA_NV_OWNERWRITE,
    TPMA_NV_PLATFORMCREATE,
    TPMA_NV_POLICY_DELETE,
    TPMA_NV_POLICYREAD,
    TPMA_NV_POLICYWRITE,
    TPMA_NV_PPREAD,
    TPMA_NV_PPWRITE,
    TPMA_NV_READ_STCLEAR,
    TPMA_NV_READLOCKED,
    TPMA_NV_TPM_NT,
    TPMA_NV_TPM_NT_SHIFT,
    TPMA_NV_WRITE_STCLEAR,
    TPMA_NV_WRITEALL,
    TPMA_NV_WRITEDEFINE,
    TPMA_NV_WRITELOCKED,
    TPMA_NV_WRITTEN,
)
from hwtpm.tpm2.types.constants import (
    TPM_RC_ATTRIBUTES,
    TPM_RC_HANDLE,
    TPM_RC_HIERARCHY,
    TPM_RC_NV_AUTHORIZATION,
    TPM_RC_NV_LOCKED,
    TPM_RC_NV_RANGE,
    TPM_RC_NV_UNINITIALIZED,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.handles import TPM_HT_NV_INDEX, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC, TPMT_NV_PUBLIC_2

_READS: Final = TPMA_NV_PPREAD | TPMA_NV_OWNERREAD | TPMA_NV_AUTHREAD | TPMA_NV_POLICYREAD
_WRITES: Final = TPMA_NV_PPWRITE | TPMA_NV_OWNERWRITE | TPMA_NV_AUTHWRITE | TPMA_NV_POLICYWRITE
_STATES: Final = TPMA_NV_WRITTEN | TPMA_NV_WRITELOCKED | TPMA_NV_READLOCKED
_NOT_IN_PIN: Final = TPMA_NV_AUTHWRITE | TPMA_NV_GLOBALLOCK | TPMA_NV_WRITEDEFINE
_EIGHT_OCTETS: Final = (TPM_NT_COUNTER, TPM_NT_BITS, TPM_NT_PIN_FAIL, TPM_NT_PIN_PASS)
_WRITTEN_BY_OTHERS: Final = (TPM_NT_COUNTER, TPM_NT_BITS, TPM_NT_EXTEND)


@handles
def nv_define_space(tpm: Tpm, cmd: NVDefineSpace) -> Empty:
    """The NV Index exists and is not written.  Part 3, 31.3.

    TPM_RC_SIZE: the authValue (parameter 1), the policy or the data (parameter 2) are too long, or not what
    the type asks for.  TPM_RC_ATTRIBUTES (parameter 2): they contradict each other; (handle 1): the creator
    is not the one that they name.  TPM_RC_HIERARCHY: phEnableNV is CLEAR.  TPM_RC_NV_DEFINED,
    TPM_RC_NV_SPACE.
    """
    return _define(tpm, cmd.auth_handle, cmd.auth, cmd.public_info)


@handles
def nv_define_space2(tpm: Tpm, cmd: NVDefineSpace2) -> Empty:
    """The NV Index exists and is not written.  Part 3, 31.17.

    TPM_RC_HANDLE (parameter 2): it is not of type TPM_HT_NV_INDEX, and there is no memory of other types.
    Else as for NV_DefineSpace.
    """
    # Input Validation
    public = cmd.public_info.public_area
    if cmd.public_info.handle_type != TPM_HT_NV_INDEX or not isinstance(public, TPMS_NV_PUBLIC):
        raise TpmError(TPM_RC_HANDLE).parameter(2)
    return _define(tpm, cmd.auth_handle, cmd.auth, public)


def _define(tpm: Tpm, auth_handle: int, auth: bytes, public: TPMS_NV_PUBLIC) -> Empty:
    # Input Validation
    digest_size = hashes.size(public.name_alg)
    if public.auth_policy and len(public.auth_policy) != digest_size:
        raise TpmError(TPM_RC_SIZE).parameter(2)
    if len(auth.rstrip(b"\0")) > digest_size:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    by_platform = auth_handle == TPM_RH_PLATFORM
    if by_platform and not tpm.hierarchies.ph_enable_nv:
        raise TpmError(TPM_RC_HIERARCHY).handle(1)
    try:
        _check_size(public, digest_size)
        _check_attributes(public.attributes)
    except TpmError as error:
        raise error.parameter(2) from None
    if bool(public.attributes & TPMA_NV_PLATFORMCREATE) != by_platform:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    if public.attributes & TPMA_NV_POLICY_DELETE and not by_platform:
        raise TpmError(TPM_RC_ATTRIBUTES).parameter(2)
    if public.attributes & TPMA_NV_WRITEALL and public.data_size > MAX_NV_BUFFER_SIZE:
        raise TpmError(TPM_RC_SIZE).parameter(2)
    # Internal Data Update
    tpm.nv.define(public, auth)
    # Command Output
    return Empty()


def _check_size(public: TPMS_NV_PUBLIC, digest_size: int) -> None:
    """Raise TPM_RC_ATTRIBUTES for a type that is not known, TPM_RC_SIZE for a size that is not the type's."""
    kind = (public.attributes & TPMA_NV_TPM_NT) >> TPMA_NV_TPM_NT_SHIFT
    if kind == TPM_NT_ORDINARY:
        fits = public.data_size <= MAX_NV_INDEX_SIZE
    elif kind == TPM_NT_EXTEND:
        fits = public.data_size == digest_size
    elif kind in _EIGHT_OCTETS:
        fits = public.data_size == 8
    else:
        raise TpmError(TPM_RC_ATTRIBUTES)
    if not fits:
        raise TpmError(TPM_RC_SIZE)


def _check_attributes(attributes: int) -> None:
    """Raise TPM_RC_ATTRIBUTES if an Index cannot be defined with them (Part 2, 13.4; Part 3, 31.3.1)."""
    kind = (attributes & TPMA_NV_TPM_NT) >> TPMA_NV_TPM_NT_SHIFT
    stays_unwritten = TPMA_NV_CLEAR_STCLEAR | TPMA_NV_WRITEDEFINE
    if (
        attributes & _STATES
        or not attributes & _READS
        or not attributes & _WRITES
        or (kind == TPM_NT_COUNTER and attributes & TPMA_NV_CLEAR_STCLEAR)
        or (kind == TPM_NT_PIN_FAIL and not attributes & TPMA_NV_NO_DA)
        or (kind in (TPM_NT_PIN_FAIL, TPM_NT_PIN_PASS) and attributes & _NOT_IN_PIN)
        # A lock for ever of what does not last would outlive the data.
        or attributes & stays_unwritten == stays_unwritten
    ):
        raise TpmError(TPM_RC_ATTRIBUTES)


@handles
def nv_undefine_space(tpm: Tpm, cmd: NVUndefineSpace) -> Empty:
    """The NV Index is gone.  Part 3, 31.4.

    TPM_RC_ATTRIBUTES (handle 2): only its policy can delete it.  TPM_RC_NV_AUTHORIZATION: the owner cannot
    delete what the platform defined.
    """
    # Input Validation
    attributes = tpm.nv.get(cmd.nv_index).public.attributes
    if attributes & TPMA_NV_POLICY_DELETE:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(2)
    if cmd.auth_handle == TPM_RH_OWNER and attributes & TPMA_NV_PLATFORMCREATE:
        raise TpmError(TPM_RC_NV_AUTHORIZATION)
    # Internal Data Update
    tpm.nv.undefine(cmd.nv_index)
    # Command Output
    return Empty()


@handles
def nv_undefine_space_special(tpm: Tpm, cmd: NVUndefineSpaceSpecial) -> Empty:
    """The NV Index, whose policy allowed it, is gone.  Part 3, 31.5.

    TPM_RC_ATTRIBUTES (handle 1): it is not one that only its policy can delete.
    """
    # Input Validation
    if not tpm.nv.get(cmd.nv_index).public.attributes & TPMA_NV_POLICY_DELETE:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    # Internal Data Update
    tpm.nv.undefine(cmd.nv_index)
    # Command Output
    return Empty()


@handles
def nv_read_public(tpm: Tpm, cmd: NVReadPublic) -> NVReadPublicResponse:
    """The public area and the Name are returned.  Part 3, 31.6."""
    # Command Output
    index = tpm.nv.get(cmd.nv_index)
    return NVReadPublicResponse(index.public, index.name)


@handles
def nv_read_public2(tpm: Tpm, cmd: NVReadPublic2) -> NVReadPublic2Response:
    """The public area with its type, and the Name, are returned.  Part 3, 31.18."""
    # Command Output
    index = tpm.nv.get(cmd.nv_index)
    return NVReadPublic2Response(TPMT_NV_PUBLIC_2(TPM_HT_NV_INDEX, index.public), index.name)


def check_read(tpm: Tpm, auth_handle: int, nv_index: int) -> NvIndex:
    """Return the Index if *auth_handle* may read it (Part 3, 31.1).

    TPM_RC_NV_LOCKED, TPM_RC_NV_AUTHORIZATION, TPM_RC_NV_UNINITIALIZED, in this order.
    """
    index = tpm.nv.get(nv_index)
    attributes = index.public.attributes
    if attributes & TPMA_NV_READLOCKED:
        raise TpmError(TPM_RC_NV_LOCKED)
    _check_authority(auth_handle, nv_index, attributes, TPMA_NV_OWNERREAD, TPMA_NV_PPREAD)
    if not attributes & TPMA_NV_WRITTEN:
        raise TpmError(TPM_RC_NV_UNINITIALIZED)
    return index


def check_range(index: NvIndex, offset: int, size: int) -> None:
    """Raise TPM_RC_NV_RANGE if *size* octets from *offset* on are not all in the Index."""
    if offset + size > index.public.data_size:
        raise TpmError(TPM_RC_NV_RANGE)


def _check_write(tpm: Tpm, auth_handle: int, nv_index: int) -> NvIndex:
    """Return the Index if *auth_handle* may write it; TPM_RC_NV_LOCKED, TPM_RC_NV_AUTHORIZATION."""
    index = tpm.nv.get(nv_index)
    attributes = index.public.attributes
    if attributes & TPMA_NV_WRITELOCKED:
        raise TpmError(TPM_RC_NV_LOCKED)
    _check_authority(auth_handle, nv_index, attributes, TPMA_NV_OWNERWRITE, TPMA_NV_PPWRITE)
    return index


def _check_authority(auth_handle: int, nv_index: int, attributes: int, owner: int, platform: int) -> None:
    """Raise TPM_RC_NV_AUTHORIZATION unless the Index lets the authority in.

    Whether its own authValue or policy was allowed is known already: authorization checked it.
    """
    if auth_handle == TPM_RH_OWNER:
        allowed = bool(attributes & owner)
    elif auth_handle == TPM_RH_PLATFORM:
        allowed = bool(attributes & platform)
    else:
        allowed = auth_handle == nv_index
    if not allowed:
        raise TpmError(TPM_RC_NV_AUTHORIZATION)


@handles
def nv_write(tpm: Tpm, cmd: NVWrite) -> Empty:
    """The data are in the NV Index, which is written.  Part 3, 31.7.

    TPM_RC_ATTRIBUTES: the type is written by another command.  TPM_RC_VALUE (parameter 2): the offset is
    behind the end.  TPM_RC_NV_RANGE: the data reach behind the end, or only part of an Index is written that
    has to be written as a whole.
    """
    # Input Validation
    index = _check_write(tpm, cmd.auth_handle, cmd.nv_index)
    if index.kind in _WRITTEN_BY_OTHERS:
        raise TpmError(TPM_RC_ATTRIBUTES)
    if cmd.offset > index.public.data_size:
        raise TpmError(TPM_RC_VALUE).parameter(2)
    check_range(index, cmd.offset, len(cmd.data))
    if index.public.attributes & TPMA_NV_WRITEALL and len(cmd.data) != index.public.data_size:
        raise TpmError(TPM_RC_NV_RANGE)
    # Internal Data Update
    tpm.nv.write(index, cmd.data, cmd.offset)
    # Command Output
    return Empty()


def _check_kind(index: NvIndex, kind: int) -> None:
    if index.kind != kind:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(2)


@handles
def nv_increment(tpm: Tpm, cmd: NVIncrement) -> Empty:
    """The counter is one higher, at first than any that there has been.  Part 3, 31.8.

    TPM_RC_ATTRIBUTES (handle 2): it is not a counter.
    """
    # Input Validation
    index = _check_write(tpm, cmd.auth_handle, cmd.nv_index)
    _check_kind(index, TPM_NT_COUNTER)
    # Internal Data Update
    tpm.nv.increment(index)
    # Command Output
    return Empty()


@handles
def nv_extend(tpm: Tpm, cmd: NVExtend) -> Empty:
    """The NV Index is the digest of what it was, at first zeros, and the data.  Part 3, 31.9.

    TPM_RC_ATTRIBUTES (handle 2): it is not one to be extended.
    """
    # Input Validation
    index = _check_write(tpm, cmd.auth_handle, cmd.nv_index)
    _check_kind(index, TPM_NT_EXTEND)
    # Internal Data Update
    tpm.nv.write(index, hashes.digest(index.public.name_alg, index.data, cmd.data))
    # Command Output
    return Empty()


@handles
def nv_set_bits(tpm: Tpm, cmd: NVSetBits) -> Empty:
    """The bits are SET beside those that were.  Part 3, 31.10.

    TPM_RC_ATTRIBUTES (handle 2): it is not a bit field.
    """
    # Input Validation
    index = _check_write(tpm, cmd.auth_handle, cmd.nv_index)
    _check_kind(index, TPM_NT_BITS)
    # Internal Data Update
    tpm.nv.write(index, (index.count | cmd.bits).to_bytes(8, "big"))
    # Command Output
    return Empty()


@handles
def nv_write_lock(tpm: Tpm, cmd: NVWriteLock) -> Empty:
    """The NV Index cannot be written, until the next Startup(CLEAR) or for ever.  Part 3, 31.11.

    TPM_RC_ATTRIBUTES (handle 2): its attributes do not allow that.  Locking it again succeeds.
    """
    # Input Validation
    index = tpm.nv.get(cmd.nv_index)
    if index.public.attributes & TPMA_NV_WRITELOCKED:
        return Empty()
    _check_write(tpm, cmd.auth_handle, cmd.nv_index)
    if not index.public.attributes & (TPMA_NV_WRITEDEFINE | TPMA_NV_WRITE_STCLEAR):
        raise TpmError(TPM_RC_ATTRIBUTES).handle(2)
    # Internal Data Update
    tpm.nv.lock(index, TPMA_NV_WRITELOCKED)
    # Command Output
    return Empty()


@handles
def nv_global_write_lock(tpm: Tpm, cmd: NVGlobalWriteLock) -> Empty:
    """Every NV Index with TPMA_NV_GLOBALLOCK is locked for writing.  Part 3, 31.12."""
    # Internal Data Update
    tpm.nv.lock_all()
    # Command Output
    return Empty()


@handles
def nv_read(tpm: Tpm, cmd: NVRead) -> NVReadResponse:
    """The data are returned.  Part 3, 31.13.

    TPM_RC_VALUE: more is asked for than one response takes (parameter 1), or the offset is behind the end
    (parameter 2).  TPM_RC_NV_RANGE: what is asked for reaches behind the end.
    """
    # Input Validation
    index = check_read(tpm, cmd.auth_handle, cmd.nv_index)
    if cmd.size > MAX_NV_BUFFER_SIZE:
        raise TpmError(TPM_RC_VALUE).parameter(1)
    if cmd.offset > index.public.data_size:
        raise TpmError(TPM_RC_VALUE).parameter(2)
    check_range(index, cmd.offset, cmd.size)
    # Command Output
    return NVReadResponse(index.data[cmd.offset : cmd.offset + cmd.size])


@handles
def nv_read_lock(tpm: Tpm, cmd: NVReadLock) -> Empty:
    """The NV Index cannot be read until the next Startup(CLEAR).  Part 3, 31.14.

    TPM_RC_ATTRIBUTES (handle 2): its attributes do not allow that.  Locking it again succeeds, and so does
    locking one that is not written.
    """
    # Input Validation
    index = tpm.nv.get(cmd.nv_index)
    attributes = index.public.attributes
    if attributes & TPMA_NV_READLOCKED:
        return Empty()
    _check_authority(cmd.auth_handle, cmd.nv_index, attributes, TPMA_NV_OWNERREAD, TPMA_NV_PPREAD)
    if not attributes & TPMA_NV_READ_STCLEAR:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(2)
    # Internal Data Update
    tpm.nv.lock(index, TPMA_NV_READLOCKED)
    # Command Output
    return Empty()


@handles
def nv_change_auth(tpm: Tpm, cmd: NVChangeAuth) -> Empty:
    """The NV Index has the authValue.  Part 3, 31.15.

    TPM_RC_SIZE (parameter 1): it is longer than a digest of nameAlg.
    """
    # Input Validation
    index = tpm.nv.get(cmd.nv_index)
    if len(cmd.new_auth.rstrip(b"\0")) > hashes.size(index.public.name_alg):
        raise TpmError(TPM_RC_SIZE).parameter(1)
    # Internal Data Update
    tpm.nv.set_auth(index, cmd.new_auth)
    # Command Output
    return Empty()
