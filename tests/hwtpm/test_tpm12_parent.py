"""What a virtual TPM 1.2 has the chip below sign; the commands are Xen's (stubdom/vtpm-*.patch)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.crypto.ids import SHA1, SHA256
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.endorsement import ReadPubek
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.parent import DeepQuote, ParentSignEK
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_ORDINAL,
    TPM_BAD_PARAM_SIZE,
    TPM_BADINDEX,
    TPM_BADTAG,
    TPM_DISABLED_CMD,
    TPM_INVALID_PCR_INFO,
    TPM_NOSRK,
)
from hwtpm.tpm12.types.constants import TPM_CAP_ORD, TPM_ST_CLEAR, TPM_ST_STATE
from hwtpm.tpm12.types.parent import TPM_ORD_DeepQuote, TPM_ORD_ParentSignEK
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
from tests.support.parent import Parent
from tests.support.tpm2 import refused
from tests.support.tpm12 import OWNER_AUTH, Machine, composite, once, owned, selection, with_endorsement_key

NONCE = b"n" * 20
ORDINALS = [TPM_ORD_DeepQuote, TPM_ORD_ParentSignEK]


@pytest.fixture
def parent() -> Parent:
    return Parent()


@pytest.fixture
def tpm(parent: Parent) -> Machine:
    made = owned()
    made.engine.attach(parent)
    return made


def deep_quote(tpm: Machine, vt: TPM_PCR_SELECTION, pt: TPM_PCR_SELECTION, flags: int = 0,
               secret: bytes = OWNER_AUTH) -> bytes:
    return tpm.run(DeepQuote(NONCE, vt, pt, flags), once(tpm.client.oiap(secret))).quote


def sign_ek(tpm: Machine, pt: TPM_PCR_SELECTION, secret: bytes = OWNER_AUTH) -> bytes:
    return tpm.run(ParentSignEK(NONCE, pt), once(tpm.client.oiap(secret))).quote


def test_the_numbers_are_those_of_xen() -> None:
    assert ORDINALS == [0x02000016, 0x0200007C]


def test_a_deep_quote_has_the_chip_sign_this_tpms_pcrs(tpm: Machine, parent: Parent) -> None:
    value = tpm.run(Extend(10, b"x" * 20)).out_digest
    tpm.locality = 2
    chosen = selection(10)
    found = deep_quote(tpm, chosen, selection(0, 17), 5)
    # SHA-1 over 0.0.0.0, "DQUT", externData and a TPM_PCR_INFO_SHORT, as Xen's vtpm_manager has it.
    info = b"\0\3" + chosen.pcr_select + b"\4" + composite(chosen, value)
    data = sha1(b"\0\0\0\0DQUT" + NONCE + info).digest()
    assert parent.asked == [(data, selection(0, 17).pcr_select, 5)]
    assert found == b"signed: " + data


def test_the_chip_signs_what_read_pubek_gives_as_checksum(tpm: Machine, parent: Parent) -> None:
    tpm.tpm.flags.set(read_pubek=True)
    checksum = tpm.run(ReadPubek(NONCE)).checksum
    assert sign_ek(tpm, selection(1)) == b"signed: " + checksum
    assert parent.asked == [(checksum, selection(1).pcr_select, 0)]


def test_an_endorsement_key_is_signed_before_power_has_gone_only(tpm: Machine, parent: Parent) -> None:
    tpm.power_cycle()
    tpm.engine.attach(parent)
    tpm.run(Startup(TPM_ST_CLEAR))
    with refused(TPM_DISABLED_CMD):
        sign_ek(tpm, selection(1))
    assert deep_quote(tpm, selection(1), selection(1))


def test_only_the_owner_may(tpm: Machine, parent: Parent) -> None:
    with refused(TPM_AUTHFAIL):
        deep_quote(tpm, selection(1), selection(1), secret=b"w" * 20)
    with refused(TPM_AUTHFAIL):
        sign_ek(tpm, selection(1), secret=b"w" * 20)
    assert parent.asked == []


def test_without_an_owner_there_is_none_to_ask(parent: Parent) -> None:
    tpm = with_endorsement_key()
    tpm.engine.attach(parent)
    with refused(TPM_NOSRK):
        deep_quote(tpm, selection(1), selection(1))


def test_without_authorization_the_tag_is_wrong(tpm: Machine) -> None:
    with refused(TPM_BADTAG):
        tpm.run(DeepQuote(NONCE, selection(1), selection(1), 0))


def test_what_the_manager_refuses_is_refused(tpm: Machine, parent: Parent) -> None:
    parent.refusal = TPM_BADINDEX
    with refused(TPM_BADINDEX):
        deep_quote(tpm, selection(1), selection(1))
    with refused(TPM_BADINDEX):
        sign_ek(tpm, selection(1))


@pytest.mark.parametrize("ordinal", ORDINALS)
def test_a_tpm_without_a_parent_has_no_such_commands(ordinal: int) -> None:
    tpm = owned()
    response = tpm.execute(b"\0\xc1\0\0\0\x0a" + ordinal.to_bytes(4, "big"))
    assert int.from_bytes(response[6:10], "big") == TPM_BAD_ORDINAL
    assert tpm.run(GetCapability(TPM_CAP_ORD, ordinal.to_bytes(4, "big"))).resp == b"\0"


@pytest.mark.parametrize("ordinal", ORDINALS)
def test_a_tpm_with_a_parent_says_that_it_has_them(tpm: Machine, ordinal: int) -> None:
    assert tpm.run(GetCapability(TPM_CAP_ORD, ordinal.to_bytes(4, "big"))).resp == b"\1"
    assert tpm.engine.takes_long(b"\0\xc2\0\0\0\x0a" + ordinal.to_bytes(4, "big"))


@pytest.mark.parametrize(("body", "code"), [
    (b"", TPM_BAD_PARAM_SIZE), (NONCE, TPM_BAD_PARAM_SIZE),
    (NONCE + b"\0\4" + bytes(9), TPM_INVALID_PCR_INFO)])
def test_malformed_parameters_are_refused(tpm: Machine, parent: Parent, body: bytes, code: int) -> None:
    command = TPM_ORD_DeepQuote.to_bytes(4, "big") + body
    response = tpm.execute(b"\0\xc2" + (len(command) + 6).to_bytes(4, "big") + command)
    assert int.from_bytes(response[6:10], "big") == code
    assert parent.asked == []


def test_pcrs_can_begin_with_what_the_platform_gives(tpm: Machine) -> None:
    tpm.power_cycle()
    tpm.engine.begin_with({(SHA1, 3): b"\3" * 20, (SHA1, 17): b"\7" * 20, (SHA256, 3): b"\4" * 32})
    tpm.run(Startup(TPM_ST_CLEAR))
    assert tpm.run(PcrRead(3)).out_digest == b"\3" * 20
    assert tpm.run(PcrRead(17)).out_digest == b"\7" * 20
    assert tpm.run(PcrRead(4)).out_digest == bytes(20)


def test_pcrs_of_a_saved_state_are_not_begun_again(tpm: Machine) -> None:
    value = tpm.run(Extend(3, b"x" * 20)).out_digest
    tpm.run(SaveState())
    tpm.power_cycle()
    tpm.engine.begin_with({(SHA1, 3): b"\3" * 20})
    tpm.run(Startup(TPM_ST_STATE))
    assert tpm.run(PcrRead(3)).out_digest == value
