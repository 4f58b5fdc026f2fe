"""The manager's protocol as declared messages (Xen stubdom/vtpmmgr/vtpm_manager.h), without I/O.

A message is tag u16, size u32 and ordinal or return code u32, then its members in order; big-endian, return
codes of TPM 1.2.  Members are those of vtpm_manager.h, byte by byte.  What that file declares without saying
what is in it is designed here in its style: VTPM_SHOW, VTPM_EDIT, the identities and NV.

With a chip that is a TPM 1.2, a signature of the chip is 256 octets and a value of a PCR 20.  With a TPM 2.0,
which Xen's protocol does not know, the same 256 octets are over a TPMS_ATTEST, which comes after them as a
TPM2B_ATTEST, at the beginning of what is called *rest* here; a value of a PCR is that of the SHA-256 bank.
`REQUESTS` has the class of each ordinal, which is another one for each family where members differ.
"""

from __future__ import annotations

from struct import Struct
from typing import Annotated, ClassVar, Final, Generic, TypeVar

from hwtpm.command import response_of
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm2.types.objects import TPM2B_PRIVATE, TPM2B_PUBLIC
from hwtpm.tpm12.types.codes import TPM_SUCCESS, rc_name
from hwtpm.tpm12.types.key import TPM_KEY, TPM_PUBKEY
from hwtpm.wire import SECRET, Fixed, Int, Rest, Sized, Wire, decode, encode

VTPM_TAG_REQ: Final = 0x01C1
VTPM_TAG_REQ2: Final = 0x01C2
VTPM_TAG_RSP: Final = 0x01C4
VTPM_TAG_RSP2: Final = 0x01C5

VTPM_QUOTE_FLAGS_HASH_UUID: Final = 1
VTPM_QUOTE_FLAGS_VTPM_MEASUREMENTS: Final = 2
VTPM_QUOTE_FLAGS_GROUP_INFO: Final = 4
VTPM_QUOTE_FLAGS_GROUP_PUBKEY: Final = 8

VTPM_ORD_SAVEHASHKEY: Final = 1
VTPM_ORD_LOADHASHKEY: Final = 2
VTPM_ORD_GET_BOOT_HASH: Final = 3
VTPM_ORD_GET_QUOTE: Final = 4
VTPM_ORD_GROUP_LIST: Final = 0x02000101
VTPM_ORD_GROUP_NEW: Final = 0x02000102
VTPM_ORD_GROUP_DEL: Final = 0x02000103
VTPM_ORD_GROUP_ACTIVATE: Final = 0x02000104
VTPM_ORD_GROUP_REGISTER: Final = 0x02000105
VTPM_ORD_GROUP_UPDATE: Final = 0x02000106
VTPM_ORD_GROUP_SHOW: Final = 0x02000107
VTPM_ORD_GROUP_QUOTE: Final = 0x02000108
VTPM_ORD_GROUP_RECOVER1: Final = 0x02000109
VTPM_ORD_GROUP_RECOVER2: Final = 0x0200010A
VTPM_ORD_VTPM_LIST: Final = 0x02000201
VTPM_ORD_VTPM_SHOW: Final = 0x02000202
VTPM_ORD_VTPM_EDIT: Final = 0x02000203
VTPM_ORD_VTPM_NEW: Final = 0x02000204
VTPM_ORD_VTPM_DEL: Final = 0x02000205
VTPM_ORD_MakeIdentity: Final = 0x02000301
VTPM_ORD_ActivateIdentity: Final = 0x02000302
VTPM_ORD_ReadPubek: Final = 0x02000303
VTPM_NV_DefineSpace: Final = 0x02000304
VTPM_NV_WriteValue: Final = 0x02000305
VTPM_NV_ReadValue: Final = 0x02000306

MAX_MESSAGE: Final = 4096
"""COMMAND_BUFFER_SIZE: octets of the longest message."""
MODULUS: Final = 256
"""Octets of every RSA modulus and signature, and of a half of the Diffie-Hellman exchange."""

VTPM_INVALID_REQUEST: Final = 5
"""A return code of the manager's own."""

HEADER: Final = Struct(">HII")

UINT32 = Annotated[int, Int("I")]
UUID_OCTETS = Annotated[bytes, Fixed(16)]
TPM_HASH = Annotated[bytes, Fixed(20)]
TPM_NONCE = Annotated[bytes, Fixed(20)]
RSA_OCTETS = Annotated[bytes, Fixed(MODULUS)]
RECOVER_BLOB = Annotated[bytes, Fixed(32)]
BLOB = Annotated[bytes, Sized(MAX_MESSAGE, prefix="I")]
PCR_SELECTION = Annotated[bytes, Sized(4)]
"""A bit map, the first octet PCR 0 to 7, with its size before it; Xen takes up to four octets."""
REST = Annotated[bytes, Rest()]

R = TypeVar("R", bound=Wire)


class Request(Wire, Generic[R]):
    """A request; the type argument is its response.

    *ORD* is its ordinal; a *MANAGEMENT* request has the tag VTPM_TAG_REQ2.
    """

    ORD: ClassVar[int]
    MANAGEMENT: ClassVar[bool] = True


class Nothing(Wire):
    """A response without members."""


# What any vTPM can ask.


class SaveHashKey(Request[Nothing]):
    """*keyblob*, 52 to 64 octets, is what this vTPM gets back from now on."""

    ORD: ClassVar[int] = VTPM_ORD_SAVEHASHKEY
    MANAGEMENT: ClassVar[bool] = False
    keyblob: Annotated[bytes, Rest(), SECRET]


class LoadHashKeyResponse(Wire):
    keyblob: Annotated[bytes, Rest(), SECRET]


class LoadHashKey(Request[LoadHashKeyResponse]):
    """What was saved last for this vTPM is returned; TPM_BAD_PARAMETER if nothing was."""

    ORD: ClassVar[int] = VTPM_ORD_LOADHASHKEY
    MANAGEMENT: ClassVar[bool] = False


class GetBootHashResponse(Wire):
    digest: TPM_HASH


class GetBootHash(Request[GetBootHashResponse]):
    """The hash of what this vTPM runs, for the first extend of its PCR 0, is returned."""

    ORD: ClassVar[int] = VTPM_ORD_GET_BOOT_HASH
    MANAGEMENT: ClassVar[bool] = False


class GetQuoteResponse(Wire):
    """*rest* is TPM2B_ATTEST (TPM 2.0 only), the requested hashes, and the values of the selected PCRs."""

    signature: RSA_OCTETS
    rest: REST


class GetQuote(Request[GetQuoteResponse]):
    """A quote of the chip for this vTPM is returned, by the AIK of its group."""

    ORD: ClassVar[int] = VTPM_ORD_GET_QUOTE
    MANAGEMENT: ClassVar[bool] = False
    extern_data: TPM_NONCE
    quote_select: PCR_SELECTION
    flags: UINT32


# Groups.


class GroupListResponse(Wire):
    count: UINT32


class GroupList(Request[GroupListResponse]):
    """The number of groups is returned."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_LIST


class GroupNewResponse(Wire):
    """*aik_binding* signs a TPM_IDENTITY_CONTENTS, or the TPMS_ATTEST of TPM2_CertifyCreation.

    *rest* is empty, or the TPM2B_ATTEST and the TPM2B_PUBLIC of the AIK.
    """

    group_uuid: UUID_OCTETS
    aik_pub_key: RSA_OCTETS
    aik_binding: RSA_OCTETS
    rest: REST


class GroupNew(Request[GroupNewResponse]):
    """There is one more group, with an AIK of its own; or the first group has its SAA and its AIK."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_NEW
    label_digest: TPM_HASH
    saa_sig_key: RSA_OCTETS


class GroupDel(Request[Nothing]):
    """The group and its vTPMs are gone; the groups behind it have moved down."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_DEL
    group_id: UINT32


class GroupActivateResponse(Wire):
    """*key* is a TPM_SYMMETRIC_KEY, or the TPM2B_DIGEST that was the credential."""

    key: Annotated[bytes, Rest(), SECRET]


class GroupActivate(Request[GroupActivateResponse]):
    """What a privacy CA has encrypted for the group's AIK is returned.

    *blob* is that of TPM_ActivateIdentity, or a TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET.
    """

    ORD: ClassVar[int] = VTPM_ORD_GROUP_ACTIVATE
    group_id: UINT32
    blob: BLOB


class GroupRegisterResponse(Wire):
    """*rest* is empty, or the TPM2B_ATTEST of *reg_proof*."""

    dhkx_2: RSA_OCTETS
    recover_blob: RECOVER_BLOB
    reg_proof: RSA_OCTETS
    rest: REST


class GroupRegister(Request[GroupRegisterResponse]):
    """The SAA has what recovers the group; only before the first restart, and only once."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_REGISTER
    group_id: UINT32
    dhkx_1: RSA_OCTETS
    saa_proof: RSA_OCTETS
    quote_select: PCR_SELECTION


class GroupUpdate(Request[Nothing]):
    """The group is valid in the configurations of the list; *rest* is read by `manager.cfglist`."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_UPDATE
    group_id: UINT32
    cfg_list_sig: RSA_OCTETS
    rest: REST


class GroupShowResponse(Wire):
    """*cfg_list* is a TPM_MGR_CFG_LIST, which `manager.cfglist` reads."""

    group_uuid: UUID_OCTETS
    pubkey: RSA_OCTETS
    cfg_list: REST


class GroupShow(Request[GroupShowResponse]):
    """What the group is, is returned."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_SHOW
    group_id: UINT32


class GroupQuote(Request[GetQuoteResponse]):
    """A quote of the chip for the group is returned, which shows that an update has been applied."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_QUOTE
    group_id: UINT32
    nonce: TPM_NONCE
    quote_select: PCR_SELECTION


class GroupRecover1Response(Wire):
    """*rest* is empty, or the TPM2B_ATTEST of *signature*."""

    dhkx_1: RSA_OCTETS
    signature: RSA_OCTETS
    rest: REST


class GroupRecover1(Request[GroupRecover1Response]):
    """The recovery of a closed group has begun; the quote shows to whom the SAA would give the key."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_RECOVER1
    group_id: UINT32
    proxy_aik: TPM_KEY
    nonce: TPM_NONCE
    quote_select: PCR_SELECTION


class IdentityKey20(Wire):
    """A key as a TPM 2.0 loads it."""

    private: TPM2B_PRIVATE
    public: TPM2B_PUBLIC


class GroupRecover1With20(Request[GroupRecover1Response]):
    """GroupRecover1 with a TPM 2.0."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_RECOVER1
    group_id: UINT32
    proxy_aik: IdentityKey20
    nonce: TPM_NONCE
    quote_select: PCR_SELECTION


class GroupRecover2(Request[Nothing]):
    """The closed group is open, and sealed to the configurations of its list and the present one."""

    ORD: ClassVar[int] = VTPM_ORD_GROUP_RECOVER2
    group_id: UINT32
    dhkx_2: RSA_OCTETS
    recover_blob: RECOVER_BLOB


# vTPMs.


class VtpmListResponse(Wire):
    total_count: UINT32
    uuids: REST


class VtpmList(Request[VtpmListResponse]):
    """The UUIDs of the group's vTPMs from *offset* on, as many as there is room for, are returned."""

    ORD: ClassVar[int] = VTPM_ORD_VTPM_LIST
    group_id: UINT32
    offset: UINT32


class VtpmShowResponse(Wire):
    """*flags* are VTPM_FLAG_ bits; *kern_hash* is what may open it, zeros for all that its group allows."""

    group_id: UINT32
    group_uuid: UUID_OCTETS
    flags: UINT32
    kern_hash: TPM_HASH


class VtpmShow(Request[VtpmShowResponse]):
    """What the manager knows of the vTPM is returned, but for its secrets."""

    ORD: ClassVar[int] = VTPM_ORD_VTPM_SHOW
    uuid: UUID_OCTETS


class VtpmEdit(Request[Nothing]):
    """The vTPM is in that group, has those flags, and may be opened by that kernel.

    *flags* are VTPM_FLAG_ADMIN or none; *kern_hash* is as VTPM_SHOW gives it.
    """

    ORD: ClassVar[int] = VTPM_ORD_VTPM_EDIT
    uuid: UUID_OCTETS
    group_id: UINT32
    flags: UINT32
    kern_hash: TPM_HASH


class VtpmNewResponse(Wire):
    vtpm_uuid: UUID_OCTETS


class VtpmNew(Request[VtpmNewResponse]):
    """There is one more vTPM in the group; *uuid* is empty for a random one."""

    ORD: ClassVar[int] = VTPM_ORD_VTPM_NEW
    group_id: UINT32
    uuid: REST


class VtpmDel(Request[Nothing]):
    """The vTPM is gone, and so is its key."""

    ORD: ClassVar[int] = VTPM_ORD_VTPM_DEL
    vtpm_uuid: UUID_OCTETS


# The chip.


class MakeIdentityResponse(Wire):
    """*identity_binding* is as in GROUP_NEW."""

    id_key: TPM_KEY
    identity_binding: RSA_OCTETS


class MakeIdentity(Request[MakeIdentityResponse]):
    """The chip has made an AIK that belongs to no group; its secret is 20 zero octets."""

    ORD: ClassVar[int] = VTPM_ORD_MakeIdentity
    label_digest: TPM_HASH


class MakeIdentityResponse20(Wire):
    id_key: IdentityKey20
    identity_binding: RSA_OCTETS
    rest: REST


class MakeIdentityWith20(Request[MakeIdentityResponse20]):
    """MakeIdentity with a TPM 2.0; its *rest* is the TPM2B_ATTEST of the binding."""

    ORD: ClassVar[int] = VTPM_ORD_MakeIdentity
    label_digest: TPM_HASH


class ActivateIdentity(Request[GroupActivateResponse]):
    """What a privacy CA has encrypted for the AIK is returned, as in GROUP_ACTIVATE."""

    ORD: ClassVar[int] = VTPM_ORD_ActivateIdentity
    id_key: TPM_KEY
    blob: BLOB


class ActivateIdentityWith20(Request[GroupActivateResponse]):
    """ActivateIdentity with a TPM 2.0."""

    ORD: ClassVar[int] = VTPM_ORD_ActivateIdentity
    id_key: IdentityKey20
    blob: BLOB


class ReadPubekResponse(Wire):
    """The public part of the endorsement key."""

    pub_endorsement_key: TPM_PUBKEY


class ReadPubek(Request[ReadPubekResponse]):
    """The public part of the chip's endorsement key, for which privacy CAs encrypt, is returned."""

    ORD: ClassVar[int] = VTPM_ORD_ReadPubek


class ReadPubekResponse20(Wire):
    pub_endorsement_key: TPM2B_PUBLIC


class ReadPubekWith20(Request[ReadPubekResponse20]):
    """ReadPubek with a TPM 2.0: the RSA key of the EK Credential Profile's template L-1."""

    ORD: ClassVar[int] = VTPM_ORD_ReadPubek


AREA_AUTH = Annotated[bytes, Fixed(20), SECRET]


class NVDefineSpace(Request[Nothing]):
    """The chip has an area that *area_auth* reads and writes; a size of zero deletes it."""

    ORD: ClassVar[int] = VTPM_NV_DefineSpace
    nv_index: UINT32
    data_size: UINT32
    area_auth: AREA_AUTH


class NVWriteValue(Request[Nothing]):
    """The area has the data from *offset* on."""

    ORD: ClassVar[int] = VTPM_NV_WriteValue
    nv_index: UINT32
    offset: UINT32
    area_auth: AREA_AUTH
    data: BLOB


class NVReadValueResponse(Wire):
    data: BLOB


class NVReadValue(Request[NVReadValueResponse]):
    """Data of the area are returned."""

    ORD: ClassVar[int] = VTPM_NV_ReadValue
    nv_index: UINT32
    offset: UINT32
    data_size: UINT32
    area_auth: AREA_AUTH


_COMMON: Final = (
    SaveHashKey, LoadHashKey, GetBootHash, GetQuote, GroupList, GroupNew, GroupDel, GroupActivate,
    GroupRegister, GroupUpdate, GroupShow, GroupQuote, GroupRecover2, VtpmList, VtpmShow, VtpmEdit, VtpmNew,
    VtpmDel, NVDefineSpace, NVWriteValue, NVReadValue)
_BY_FAMILY: Final = {
    "1.2": (GroupRecover1, MakeIdentity, ActivateIdentity, ReadPubek),
    "2.0": (GroupRecover1With20, MakeIdentityWith20, ActivateIdentityWith20, ReadPubekWith20),
}
REQUESTS: Final[dict[str, dict[int, type[Request[Wire]]]]] = {
    family: {kind.ORD: kind for kind in _COMMON + own}  # type: ignore[attr-defined, misc]
    for family, own in _BY_FAMILY.items()}
"""The class of each ordinal, by the family of the chip."""


class Refusal(ProtocolError):
    """The manager has answered with the return code *code*, and an administrator with *why*."""

    def __init__(self, name: str, code: int, why: str = "") -> None:
        super().__init__(why or f"{name}: the manager answered {rc_name(code)}")
        self.code = code


def pack_request(request: Request[R]) -> bytes:
    """Return the octets of *request*."""
    body = encode(request)
    tag = VTPM_TAG_REQ2 if request.MANAGEMENT else VTPM_TAG_REQ
    return HEADER.pack(tag, HEADER.size + len(body), request.ORD) + body


def read_response(request: Request[R], response: bytes) -> R:
    """Return what the octets *response* answer to *request*.

    Raises Refusal for a return code other than TPM_SUCCESS, and ProtocolError, one line for people, for a
    response that is malformed.
    """
    name = type(request).__name__
    if len(response) < HEADER.size:
        raise ProtocolError(f"{name}: a response of {len(response)} octets from the manager")
    tag, size, code = HEADER.unpack_from(response)
    if size != len(response):
        raise ProtocolError(f"{name}: a response of {len(response)} octets from the manager that says {size}")
    if tag not in (VTPM_TAG_RSP, VTPM_TAG_RSP2):
        raise ProtocolError(f"{name}: a response with tag 0x{tag:04x} from the manager")
    if code != TPM_SUCCESS:
        raise Refusal(name, code, response[HEADER.size :].decode(errors="replace"))
    try:
        answer: R = decode(response_of(type(request)), response[HEADER.size :])  # type: ignore[assignment]
    except TpmError:
        raise ProtocolError(f"{name}: the manager's response is cut short or too long") from None
    return answer
