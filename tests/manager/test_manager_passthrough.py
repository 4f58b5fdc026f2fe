"""The commands of the chip that the manager passes on, with chips of both families."""

from __future__ import annotations

from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manager.passthrough import pass_through
from tests.manager.chips import OwnChip, TestChip

GET_RANDOM, PCR_READ, EXTEND = 0x46, 0x15, 0x14
GET_RANDOM2, PCR_READ2, EXTEND2 = 0x17B, 0x17E, 0x182
SUCCESS, BADINDEX, BAD_PARAMETER, DISABLED_CMD, BAD_PARAM_SIZE, BADTAG = 0, 2, 3, 8, 25, 30


def message(tag: int, ordinal: int, parameters: bytes = b"", size: int | None = None) -> bytes:
    size = 10 + len(parameters) if size is None else size
    return tag.to_bytes(2, "big") + size.to_bytes(4, "big") + ordinal.to_bytes(4, "big") + parameters


def ask(chip: TestChip, command: bytes, *, admin: bool = False) -> tuple[int, bytes]:
    """Return code and parameters of the response, which has the tag of its family."""
    response = pass_through(chip.family, chip.execute, command, administrative=admin)
    tag = 0x00C4 if command[:2] < b"\x80\x00" else 0x8001
    rc = int.from_bytes(response[6:10], "big")
    if not rc and command[:2] == b"\x80\x02":
        tag = 0x8002
    assert response[:2] == tag.to_bytes(2, "big")
    assert int.from_bytes(response[2:6], "big") == len(response)
    return rc, response[10:]


def pcr(chip: TestChip, number: int) -> bytes:
    rc, value = ask(chip, message(0xC1, PCR_READ, number.to_bytes(4, "big")))
    assert rc == SUCCESS
    assert len(value) == 20
    return value


def test_anybody_gets_random_octets(any_chip: TestChip) -> None:
    for wanted in 1, 16:
        rc, found = ask(any_chip, message(0xC1, GET_RANDOM, wanted.to_bytes(4, "big")))
        assert rc == SUCCESS
        assert found[:4] == wanted.to_bytes(4, "big")
        assert len(found) == 4 + wanted
    rc, found = ask(any_chip, message(0xC1, GET_RANDOM, (1 << 20).to_bytes(4, "big")))
    assert rc == SUCCESS
    assert len(found) == 4 + int.from_bytes(found[:4], "big")


def test_only_the_administrator_extends_and_anybody_reads(any_chip: TestChip) -> None:
    before = pcr(any_chip, 9)
    extend = message(0xC1, EXTEND, (9).to_bytes(4, "big") + b"d" * 20)
    assert ask(any_chip, extend) == (DISABLED_CMD, b"")
    assert pcr(any_chip, 9) == before
    after = sha1(before + b"d" * 20).digest()
    assert ask(any_chip, extend, admin=True) == (SUCCESS, after)
    assert pcr(any_chip, 9) == after


@pytest.mark.parametrize("command", [
    message(0xC1, PCR_READ, (24).to_bytes(4, "big")), message(0xC1, EXTEND, b"\0\0\0\x18" + bytes(20))])
def test_a_pcr_that_there_is_not_is_badindex(own_chip: TestChip, command: bytes) -> None:
    assert ask(own_chip, command, admin=True)[0] == BADINDEX


@pytest.mark.parametrize(("command", "expected"), [
    (message(0xC1, 0x65), DISABLED_CMD),  # TPM_GetCapability
    (message(0xC1, 0x5D), DISABLED_CMD),  # TPM_OwnerClear is nothing for an administrator either
    (message(0xC2, 0x7A), DISABLED_CMD),
    (message(0xC1, GET_RANDOM, bytes(4), size=13), BAD_PARAM_SIZE),
    (message(0xC1, GET_RANDOM, bytes(4), size=15), BAD_PARAM_SIZE),
])
def test_everything_else_is_refused_without_the_chip(
        own_chip: TestChip, command: bytes, expected: int) -> None:
    own_chip.codes.clear()
    assert ask(own_chip, command, admin=True) == (expected, b"")
    assert own_chip.codes == []


def test_a_command_of_the_other_family_is_checked_as_its_own_would_check_it(own_chip: TestChip) -> None:
    assert ask(own_chip, message(0xC2, GET_RANDOM, bytes(4)))[0] == BADTAG
    if own_chip.family == "2.0":
        assert ask(own_chip, message(0xC1, GET_RANDOM, bytes(5)))[0] == BAD_PARAMETER


@pytest.fixture(scope="module")
def chip20(tmp_path_factory: pytest.TempPathFactory) -> OwnChip:
    return OwnChip(tmp_path_factory.mktemp("chip") / "nv")


def test_commands_of_tpm_2_go_as_they_are_to_a_tpm_2(chip20: OwnChip) -> None:
    rc, found = ask(chip20, message(0x8001, GET_RANDOM2, b"\0\x08"))
    assert (rc, found[:2], len(found)) == (0, b"\0\x08", 10)
    rc, found = ask(chip20, message(0x8001, PCR_READ2, bytes.fromhex("00000001 000b 03 000200")))
    assert (rc, len(found)) == (0, 4 + 4 + 6 + 4 + 34)
    extend = message(0x8002, EXTEND2, bytes.fromhex("00000009 00000009 40000009 0000 01 0000 00000001 000b")
                     + bytes(32))
    assert ask(chip20, extend) == (0x120, b"")  # TPM_RC_DISABLED
    assert ask(chip20, extend, admin=True)[0] == 0


@pytest.mark.parametrize(("command", "expected"), [
    (message(0x8001, 0x144, b"\0\0"), 0x120),  # TPM2_Startup: TPM_RC_DISABLED
    (message(0x8002, GET_RANDOM2, bytes.fromhex("00000009 02000000 0000 01 0000 0008")), 0x145),
    (message(0x8001, GET_RANDOM2, b"\0\x08", size=11), 0x142),
])
def test_no_other_command_of_tpm_2_reaches_the_chip(chip20: OwnChip, command: bytes, expected: int) -> None:
    chip20.codes.clear()
    assert ask(chip20, command, admin=True) == (expected, b"")
    assert chip20.codes == []


@given(st.builds(message, st.sampled_from([0xC1, 0xC2, 0xC3, 0x8001, 0x8002]),
                 st.sampled_from([GET_RANDOM, PCR_READ, EXTEND, GET_RANDOM2, PCR_READ2, EXTEND2])
                 | st.integers(0, 0xFFFFFFFF), st.binary(max_size=60)), st.booleans())
def test_any_octets_get_one_response_and_nothing_else_reaches_the_chip(
        chip20: OwnChip, command: bytes, admin: bool) -> None:
    chip20.codes.clear()
    ask(chip20, command, admin=admin)
    allowed = {GET_RANDOM2, PCR_READ2} | ({EXTEND2} if admin else set())
    assert set(chip20.codes) <= allowed
