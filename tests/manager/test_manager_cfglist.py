"""Configuration lists: what an SAA signs, and how a platform's configuration is one hash."""

from __future__ import annotations

import struct
from hashlib import sha1, sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.client import Client
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.policy import PolicyGetDigest, PolicyPCR
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_SE_TRIAL
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from manager.cfglist import (
    PLATFORM_SIZE,
    CfgList,
    Update,
    platform_hash,
    read_cfg_list,
    read_update,
    selected,
    selection,
    update_octets,
)
from tests.manager.chips import OwnChip

BAD_PARAMETER, SIZE = 3, 23
FAMILIES = pytest.mark.parametrize("family", ["1.2", "2.0"])


def code(octets: bytes, family: str) -> int:
    with pytest.raises(TpmError) as caught:
        read_update(octets, family)
    return caught.value.rc


def test_the_octets_are_those_of_the_header() -> None:
    octets = struct.pack(">QI20s20sI20s", 7, 2, b"a" * 20, b"b" * 20, 1, b"k" * 20)
    found = CfgList(7, (b"a" * 20, b"b" * 20), (b"k" * 20,))
    assert found.octets("1.2") == octets
    assert read_cfg_list(octets + b"more", "1.2") == (found, len(octets))
    found = CfgList(7, (b"a" * 32,), (b"k" * 20,))
    assert found.octets("2.0") == struct.pack(">QI32sI20s", 7, 1, b"a" * 32, 1, b"k" * 20)


@FAMILIES
@given(data=st.data())
def test_what_is_written_is_read(family: str, data: st.DataObject) -> None:
    size = PLATFORM_SIZE[family]
    platforms = data.draw(st.lists(st.binary(min_size=size, max_size=size), max_size=5))
    kernels = data.draw(st.lists(st.binary(min_size=20, max_size=20), max_size=16))
    bits = [data.draw(st.binary(min_size=3, max_size=3)) for _ in platforms]
    sequence = data.draw(st.integers(0, 2**64 - 1))
    update = Update(CfgList(sequence, tuple(platforms), tuple(kernels)), tuple(bits))
    assert read_update(update_octets(update, family), family) == update


@FAMILIES
@given(octets=st.binary(max_size=300))
def test_any_octets_are_read_or_refused(family: str, octets: bytes) -> None:
    try:
        found = read_update(octets, family)
    except TpmError as error:
        refused = error.rc
    else:
        refused = 0
        assert len(found.selections) == len(found.cfg_list.platforms)
    assert refused in (0, BAD_PARAMETER, SIZE)


@FAMILIES
def test_more_than_a_group_holds_is_tpm_size(family: str) -> None:
    one = b"c" * PLATFORM_SIZE[family]
    read_update(update_octets(Update(CfgList(1, (one,) * 5, (b"k" * 20,) * 16), (b"",) * 5), family), family)
    for platforms, kernels in (6, 0), (0, 17):
        update = Update(CfgList(1, (one,) * platforms, (b"k" * 20,) * kernels), (b"\1\0\0",) * platforms)
        assert code(update_octets(update, family), family) == SIZE


@FAMILIES
def test_a_list_that_is_cut_short_or_too_long_is_bad_parameter(family: str) -> None:
    one = b"c" * PLATFORM_SIZE[family]
    octets = update_octets(Update(CfgList(1, (one, one), (b"k" * 20,)), (b"\1\0\0", b"\1\0\0")), family)
    read_update(octets, family)
    for end in range(len(octets)):
        assert code(octets[:end], family) == BAD_PARAMETER
    assert code(octets + b"\0", family) == BAD_PARAMETER
    assert code(struct.pack(">QI", 1, 0xFFFFFFFF), family) == BAD_PARAMETER


def test_a_selection_is_of_24_pcrs() -> None:
    assert selection(b"") == bytes(3)
    assert selection(b"\x81") == b"\x81\0\0"
    assert selection(b"\1\2\3\0") == b"\1\2\3"
    assert selected(b"\x81\0\x80") == [0, 7, 23]
    for bits in b"\0\0\0\1", bytes(5):
        with pytest.raises(TpmError):
            selection(bits)


def test_a_platform_with_tpm_12_is_a_tpm_composite_hash() -> None:
    values = b"v" * 40
    assert platform_hash("1.2", b"\3\0\0", values) == sha1(
        struct.pack(">H3sI", 3, b"\3\0\0", 40) + values).digest()


def test_a_platform_with_tpm_2_is_the_policy_of_its_pcrs(tmp_path: Path) -> None:
    """Part 3, 23.7: the chip computes the same."""
    chip = OwnChip(tmp_path / "chip")
    client: Client = chip.client
    for bits, values in ((b"\xff\0\0", bytes(256)), (b"\1\0\x10", b"1" * 64)):
        trial = client.start_session(TPM_SE_TRIAL)
        client.run(PolicyPCR(trial.handle, sha256(values).digest(),
                             [TPMS_PCR_SELECTION(TPM_ALG_SHA256, bits)]))
        assert client.run(PolicyGetDigest(trial.handle)).policy_digest == platform_hash("2.0", bits, values)
    chip.close()


@FAMILIES
def test_two_selections_of_the_same_values_are_two_configurations(family: str) -> None:
    values = bytes(PLATFORM_SIZE[family])
    assert platform_hash(family, b"\1\0\0", values) != platform_hash(family, b"\0\0\1", values)
