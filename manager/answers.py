"""The manager's answers to all requests but those of a vTPM for its own secrets, from values to values.

Who asks has been looked at before: here a management request is done for whoever brings it.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Final
from uuid import UUID

from hwtpm.errors import TpmError
from hwtpm.tpm2.types.objects import TPMT_PUBLIC
from hwtpm.tpm12.types.codes import TPM_AUTHFAIL, TPM_BAD_PARAMETER, TPM_BADINDEX, TPM_FAIL
from hwtpm.tpm12.types.key import TPM_KEY, TPM_PUBKEY
from hwtpm.wire import Wire, decode, encode
from manager import requests as r
from manager.attesting import AttestingChip, Quote
from manager.book import Closed, NoGroup, NoVtpm
from manager.chipuse import ChipUse
from manager.groups import Groups
from manager.manager import Manager
from manager.quote import Meaning
from manager.refused import Refused
from manager.vtpms import Connection, Vtpms

_U16: Final = Struct(">H")
_UUIDS: Final = (4088 - r.HEADER.size - 4) // 16
"""How many UUIDs VTPM_LIST gives at once: a page of a ring less its header."""


class Answers:
    """The answers of *manager*, whose chip is *chip* and whose vTPMs are *vtpms*.

    Quotes have this *meaning*.  Safe to use from any thread.
    """

    def __init__(self, manager: Manager, chip: AttestingChip, vtpms: Vtpms, entropy: Callable[[int], bytes],
                 meaning: Meaning) -> None:
        self.family = chip.family
        self.use = ChipUse(manager, chip)
        self.groups = Groups(manager, self.use, entropy, meaning)
        self.vtpms = vtpms

    def answer(self, connection: Connection, request: r.Request[Any]) -> Wire:
        """Return the response to *request*.

        Raises Refused, also for what the chip answers to a request that is about the chip; and what the
        manager raises where it fails.
        """
        try:
            return _ANSWERS[type(request)](self, connection, request)
        except TpmError as error:
            raise Refused(self.use.return_code(error.rc), f"the chip answers {error}") from None
        except NoGroup as error:
            raise Refused(TPM_BADINDEX, str(error)) from None
        except NoVtpm as error:
            raise Refused(TPM_FAIL, str(error)) from None
        except Closed as error:
            raise Refused(TPM_AUTHFAIL, str(error)) from None

    # What any vTPM can ask

    def get_boot_hash(self, connection: Connection, request: r.GetBootHash) -> r.GetBootHashResponse:
        """GET_BOOT_HASH."""
        return r.GetBootHashResponse(self.vtpms.boot_hash(connection))

    def get_quote(self, connection: Connection, request: r.GetQuote) -> r.GetQuoteResponse:
        """GET_QUOTE."""
        made = self.groups.quote_vtpm(
            connection, request.extern_data, request.quote_select, request.flags)
        return _quote(made.quote, *made.hashes)

    # Groups

    def group_list(self, connection: Connection, request: r.GroupList) -> r.GroupListResponse:
        """GROUP_LIST."""
        return r.GroupListResponse(self.groups.count())

    def group_new(self, connection: Connection, request: r.GroupNew) -> r.GroupNewResponse:
        """GROUP_NEW."""
        made = self.groups.new(request.label_digest, request.saa_sig_key)
        rest = _sized(made.aik.statement)
        if rest:
            public = encode(decode(r.IdentityKey20, made.aik.aik.blob).public)
            rest += _U16.pack(len(public)) + public
        return r.GroupNewResponse(made.uuid.bytes, made.aik.aik.modulus, made.aik.binding, rest)

    def group_del(self, connection: Connection, request: r.GroupDel) -> r.Nothing:
        """GROUP_DEL."""
        with self.vtpms.settled():
            self.groups.delete(request.group_id, self.vtpms.is_open)
        return r.Nothing()

    def group_activate(self, connection: Connection, request: r.GroupActivate) -> r.GroupActivateResponse:
        """GROUP_ACTIVATE."""
        return r.GroupActivateResponse(self.groups.activate(request.group_id, request.blob))

    def group_register(self, connection: Connection, request: r.GroupRegister) -> r.GroupRegisterResponse:
        """GROUP_REGISTER."""
        made = self.groups.register(request.group_id, request.dhkx_1, request.saa_proof, request.quote_select)
        return r.GroupRegisterResponse(
            made.public, made.blob, made.proof.signature, _sized(made.proof.statement))

    def group_update(self, connection: Connection, request: r.GroupUpdate) -> r.Nothing:
        """GROUP_UPDATE."""
        self.groups.update(request.group_id, request.cfg_list_sig, request.rest)
        return r.Nothing()

    def group_show(self, connection: Connection, request: r.GroupShow) -> r.GroupShowResponse:
        """GROUP_SHOW."""
        shown = self.groups.show(request.group_id)
        return r.GroupShowResponse(shown.uuid.bytes, shown.saa, shown.cfg_list)

    def group_quote(self, connection: Connection, request: r.GroupQuote) -> r.GetQuoteResponse:
        """GROUP_QUOTE."""
        return _quote(self.groups.quote(request.group_id, request.nonce, request.quote_select))

    def group_recover1(self, connection: Connection,
                       request: r.GroupRecover1 | r.GroupRecover1With20) -> r.GroupRecover1Response:
        """GROUP_RECOVER1."""
        made = self.groups.recover1(
            request.group_id, encode(request.proxy_aik), request.nonce, request.quote_select)
        return r.GroupRecover1Response(made.public, made.proof.signature, _sized(made.proof.statement))

    def group_recover2(self, connection: Connection, request: r.GroupRecover2) -> r.Nothing:
        """GROUP_RECOVER2."""
        self.groups.recover2(request.group_id, request.dhkx_2, request.recover_blob)
        return r.Nothing()

    # vTPMs

    def vtpm_list(self, connection: Connection, request: r.VtpmList) -> r.VtpmListResponse:
        """VTPM_LIST."""
        total, found = self.vtpms.list(request.group_id, request.offset, _UUIDS)
        return r.VtpmListResponse(total, b"".join(uuid.bytes for uuid in found))

    def vtpm_show(self, connection: Connection, request: r.VtpmShow) -> r.VtpmShowResponse:
        """VTPM_SHOW."""
        shown = self.vtpms.show(UUID(bytes=request.uuid))
        return r.VtpmShowResponse(shown.group, shown.group_uuid.bytes, shown.flags, shown.kernel)

    def vtpm_edit(self, connection: Connection, request: r.VtpmEdit) -> r.Nothing:
        """VTPM_EDIT."""
        self.vtpms.edit(UUID(bytes=request.uuid), request.group_id, request.flags, request.kern_hash)
        return r.Nothing()

    def vtpm_new(self, connection: Connection, request: r.VtpmNew) -> r.VtpmNewResponse:
        """VTPM_NEW."""
        if len(request.uuid) not in (0, 16):
            raise Refused(TPM_BAD_PARAMETER, f"a UUID of {len(request.uuid)} octets")
        uuid = UUID(bytes=request.uuid) if request.uuid else None
        return r.VtpmNewResponse(self.vtpms.new(request.group_id, uuid).bytes)

    def vtpm_del(self, connection: Connection, request: r.VtpmDel) -> r.Nothing:
        """VTPM_DEL."""
        self.vtpms.delete(UUID(bytes=request.vtpm_uuid))
        return r.Nothing()

    # The chip

    def make_identity(self, connection: Connection, request: r.MakeIdentity | r.MakeIdentityWith20) -> Wire:
        """MakeIdentity."""
        made = self.use.make_identity(request.label_digest)
        if self.family == "1.2":
            return r.MakeIdentityResponse(decode(TPM_KEY, made.aik.blob), made.binding)
        return r.MakeIdentityResponse20(
            decode(r.IdentityKey20, made.aik.blob), made.binding, _sized(made.statement))

    def activate_identity(self, connection: Connection, request: r.ActivateIdentity | r.ActivateIdentityWith20
                          ) -> r.GroupActivateResponse:
        """ActivateIdentity."""
        return r.GroupActivateResponse(self.use.activate_identity(encode(request.id_key), request.blob))

    def read_pubek(self, connection: Connection, request: r.ReadPubek | r.ReadPubekWith20) -> Wire:
        """ReadPubek."""
        found = self.use.endorsement_key()
        if self.family == "1.2":
            return r.ReadPubekResponse(decode(TPM_PUBKEY, found))
        return r.ReadPubekResponse20(decode(TPMT_PUBLIC, found))

    def nv_define_space(self, connection: Connection, request: r.NVDefineSpace) -> r.Nothing:
        """NV_DefineSpace."""
        self.use.define_area(request.nv_index, request.data_size, request.area_auth)
        return r.Nothing()

    def nv_write_value(self, connection: Connection, request: r.NVWriteValue) -> r.Nothing:
        """NV_WriteValue."""
        self.use.write_area(request.nv_index, request.offset, request.area_auth, request.data)
        return r.Nothing()

    def nv_read_value(self, connection: Connection, request: r.NVReadValue) -> r.NVReadValueResponse:
        """NV_ReadValue."""
        return r.NVReadValueResponse(self.use.read_area(
            request.nv_index, request.offset, request.area_auth, request.data_size))


_ANSWERS: Final[dict[type[r.Request[Any]], Callable[[Answers, Connection, Any], Wire]]] = {
    r.GetBootHash: Answers.get_boot_hash,
    r.GetQuote: Answers.get_quote,
    r.GroupList: Answers.group_list,
    r.GroupNew: Answers.group_new,
    r.GroupDel: Answers.group_del,
    r.GroupActivate: Answers.group_activate,
    r.GroupRegister: Answers.group_register,
    r.GroupUpdate: Answers.group_update,
    r.GroupShow: Answers.group_show,
    r.GroupQuote: Answers.group_quote,
    r.GroupRecover1: Answers.group_recover1,
    r.GroupRecover1With20: Answers.group_recover1,
    r.GroupRecover2: Answers.group_recover2,
    r.VtpmList: Answers.vtpm_list,
    r.VtpmShow: Answers.vtpm_show,
    r.VtpmEdit: Answers.vtpm_edit,
    r.VtpmNew: Answers.vtpm_new,
    r.VtpmDel: Answers.vtpm_del,
    r.MakeIdentity: Answers.make_identity,
    r.MakeIdentityWith20: Answers.make_identity,
    r.ActivateIdentity: Answers.activate_identity,
    r.ActivateIdentityWith20: Answers.activate_identity,
    r.ReadPubek: Answers.read_pubek,
    r.ReadPubekWith20: Answers.read_pubek,
    r.NVDefineSpace: Answers.nv_define_space,
    r.NVWriteValue: Answers.nv_write_value,
    r.NVReadValue: Answers.nv_read_value,
}


def _sized(statement: bytes) -> bytes:
    """Return *statement* as a TPM2B_ATTEST, nothing if there is none."""
    return _U16.pack(len(statement)) + statement if statement else b""


def _quote(made: Quote, *found: bytes) -> r.GetQuoteResponse:
    return r.GetQuoteResponse(made.signature, _sized(made.statement) + b"".join(found) + made.values)
