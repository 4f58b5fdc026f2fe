"""What a virtual TPM 2.0 has the chip below sign, after Xen's commands for TPM 1.2."""

from __future__ import annotations

from hashlib import sha256

import pytest

from hwtpm.client import Password
from hwtpm.crypto.ids import SHA1, SHA256, SHA512
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.hierarchy import CreatePrimary, HierarchyChangeAuth
from hwtpm.tpm2.requests.parent import DeepQuote, ParentSignEK
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.attributes import TPMA_CC_V
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA256,
    TPM_CAP_COMMANDS,
    TPM_CAP_TPM_PROPERTIES,
    TPM_PT_LIBRARY_COMMANDS,
    TPM_PT_TOTAL_COMMANDS,
    TPM_PT_VENDOR_COMMANDS,
    TPM_RC_AUTH_MISSING,
    TPM_RC_BAD_AUTH,
    TPM_RC_COMMAND_CODE,
    TPM_RC_DISABLED,
    TPM_RC_HIERARCHY,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
    CC_DeepQuote,
    CC_ParentSignEK,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_OWNER
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA
from hwtpm.wire import encode
from tests.support.parent import Parent
from tests.support.templates import AES128, STORAGE, ecc
from tests.support.tpm2 import Machine, refused, started

NONCE = b"n" * 20
H1, H2, S1 = 0x100, 0x200, 0x900
P3 = 0x340
CHIP = b"\1\0\2"


@pytest.fixture
def parent() -> Parent:
    return Parent()


@pytest.fixture
def tpm(parent: Parent) -> Machine:
    made = started()
    made.engine.attach(parent)
    return made


def pcrs(*indices: int) -> list[TPMS_PCR_SELECTION]:
    return [TPMS_PCR_SELECTION(TPM_ALG_SHA256, sum(1 << i for i in indices).to_bytes(3, "little"))]


def endorsement_key(tpm: Machine, hierarchy: int = TPM_RH_ENDORSEMENT) -> tuple[int, bytes]:
    made = tpm.run(CreatePrimary(hierarchy, TPMS_SENSITIVE_CREATE(b"", b""), ecc(STORAGE, AES128), b"", []),
                   Password())
    return made.object_handle, made.name


def test_a_deep_quote_has_the_chip_sign_this_tpms_pcrs(tpm: Machine, parent: Parent) -> None:
    tpm.run(PCRExtend(10, [TPMT_HA(TPM_ALG_SHA256, b"x" * 32)]), Password())
    (value,) = tpm.run(PCRRead(pcrs(10))).pcr_values
    found = tpm.run(DeepQuote(TPM_RH_ENDORSEMENT, NONCE, pcrs(10), CHIP, 5), Password())
    assert found.quoted.pcr_digest == sha256(value).digest()
    data = sha256(b"\0\0\0\0DQUT" + NONCE + encode(found.quoted)).digest()[:20]
    assert parent.asked == [(data, CHIP, 5)]
    assert found.quote == b"signed: " + data


def test_the_chip_signs_the_name_of_an_endorsement_key(tpm: Machine, parent: Parent) -> None:
    handle, name = endorsement_key(tpm)
    found = tpm.run(ParentSignEK(TPM_RH_ENDORSEMENT, handle, NONCE, CHIP), Password()).quote
    data = sha256(b"\0\0\0\0EKEY" + NONCE + name).digest()[:20]
    assert (found, parent.asked) == (b"signed: " + data, [(data, CHIP, 0)])


def test_an_endorsement_key_is_signed_before_power_has_gone_only(tpm: Machine, parent: Parent) -> None:
    tpm.power_cycle()
    tpm.engine.attach(parent)
    tpm.run(Startup(TPM_SU_CLEAR))
    handle, _ = endorsement_key(tpm)
    with refused(TPM_RC_DISABLED):
        tpm.run(ParentSignEK(TPM_RH_ENDORSEMENT, handle, NONCE, CHIP), Password())
    assert tpm.run(DeepQuote(TPM_RH_ENDORSEMENT, NONCE, pcrs(1), CHIP, 0), Password()).quote


def test_a_key_of_another_hierarchy_is_refused(tpm: Machine, parent: Parent) -> None:
    handle, _ = endorsement_key(tpm, TPM_RH_OWNER)
    with refused(TPM_RC_HIERARCHY | H2):
        tpm.run(ParentSignEK(TPM_RH_ENDORSEMENT, handle, NONCE, CHIP), Password())
    assert parent.asked == []


def test_only_the_privacy_administrator_may(tpm: Machine, parent: Parent) -> None:
    tpm.run(HierarchyChangeAuth(TPM_RH_ENDORSEMENT, b"secret"), Password())
    with refused(TPM_RC_BAD_AUTH | S1):
        tpm.run(DeepQuote(TPM_RH_ENDORSEMENT, NONCE, pcrs(1), CHIP, 0), Password())
    with refused(TPM_RC_VALUE | H1):
        tpm.run(DeepQuote(TPM_RH_OWNER, NONCE, pcrs(1), CHIP, 0), Password())
    with refused(TPM_RC_AUTH_MISSING):
        tpm.run(DeepQuote(TPM_RH_ENDORSEMENT, NONCE, pcrs(1), CHIP, 0))
    assert parent.asked == []


def test_what_the_manager_refuses_is_refused(tpm: Machine, parent: Parent) -> None:
    parent.refusal = TPM_RC_DISABLED
    with refused(TPM_RC_DISABLED):
        tpm.run(DeepQuote(TPM_RH_ENDORSEMENT, NONCE, pcrs(1), CHIP, 0), Password())


def test_more_pcrs_than_a_chip_has_are_refused(tpm: Machine) -> None:
    with refused(TPM_RC_SIZE | P3):
        tpm.run(DeepQuote(TPM_RH_ENDORSEMENT, NONCE, pcrs(1), bytes(4), 0), Password())


def commands(tpm: Machine) -> list[int]:
    return [attributes & 0x2000FFFF for attributes
            in tpm.run(GetCapability(TPM_CAP_COMMANDS, 0, 1000)).capability_data.data
            if attributes & TPMA_CC_V]


def counts(tpm: Machine) -> list[int]:
    wanted = [TPM_PT_TOTAL_COMMANDS, TPM_PT_LIBRARY_COMMANDS, TPM_PT_VENDOR_COMMANDS]
    found = tpm.run(GetCapability(TPM_CAP_TPM_PROPERTIES, wanted[0], 3)).capability_data.data
    assert [p.property for p in found] == wanted
    return [p.value for p in found]


def test_a_tpm_without_a_parent_has_no_such_commands() -> None:
    tpm = started()
    for code in CC_DeepQuote, CC_ParentSignEK:
        response = tpm.execute(b"\x80\1\0\0\0\x0a" + code.to_bytes(4, "big"))
        assert int.from_bytes(response[6:10], "big") == TPM_RC_COMMAND_CODE
    assert commands(tpm) == []
    assert counts(tpm)[2] == 0


def test_a_tpm_with_a_parent_lists_them(tpm: Machine) -> None:
    assert commands(tpm) == [CC_DeepQuote, CC_ParentSignEK]
    total, library, vendor = counts(tpm)
    assert (total, vendor) == (library + 2, 2)
    assert tpm.engine.takes_long(b"\x80\2\0\0\0\x0a" + CC_DeepQuote.to_bytes(4, "big"))


def test_pcrs_can_begin_with_what_the_platform_gives(tpm: Machine) -> None:
    tpm.power_cycle()
    tpm.engine.begin_with({(SHA256, 3): b"\3" * 32, (SHA1, 3): b"\4" * 20, (SHA512, 3): b"\5" * 64})
    tpm.run(Startup(TPM_SU_CLEAR))
    both = [*pcrs(3, 4), TPMS_PCR_SELECTION(SHA1, b"\x08\0\0")]
    assert tpm.run(PCRRead(both)).pcr_values == [b"\3" * 32, bytes(32), b"\4" * 20]


def test_pcrs_of_a_resumed_tpm_are_not_begun_again(tpm: Machine) -> None:
    tpm.run(PCRExtend(3, [TPMT_HA(TPM_ALG_SHA256, b"x" * 32)]), Password())
    before = tpm.run(PCRRead(pcrs(3))).pcr_values
    tpm.run(Shutdown(TPM_SU_STATE))
    tpm.power_cycle()
    tpm.engine.begin_with({(SHA256, 3): b"\3" * 32})
    tpm.run(Startup(TPM_SU_STATE))
    assert tpm.run(PCRRead(pcrs(3))).pcr_values == before
