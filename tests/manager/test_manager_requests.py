"""The manager's messages are those of Xen's vtpm_manager.h, byte by byte."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.command import response_of
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.wire import Wire, decode, encode, members
from manager import requests as r
from tests.support.tpm12 import SIGNING_PARMS, key_template

# Two letters stand for one octet that many times, and a number is a UINT32.
N, H, K, L, Q = b"N" * 20, b"H" * 20, b"K" * 256, b"L" * 256, b"Q" * 256
U, B = b"U" * 16, b"B" * 32
SELECT, SELECT_OCTETS = b"\xff\0\x10", b"\0\x03\xff\0\x10"
AIK = key_template(0x12, SIGNING_PARMS)

REQUESTS: list[tuple[r.Request[Any], int, int, bytes]] = [
    (r.SaveHashKey(b"k" * 52), 0x1C1, 1, b"k" * 52),
    (r.LoadHashKey(), 0x1C1, 2, b""),
    (r.GetBootHash(), 0x1C1, 3, b""),
    (r.GetQuote(N, SELECT, 5), 0x1C1, 4, N + SELECT_OCTETS + b"\0\0\0\5"),
    (r.GroupList(), 0x1C2, 0x02000101, b""),
    (r.GroupNew(H, K), 0x1C2, 0x02000102, H + K),
    (r.GroupDel(2), 0x1C2, 0x02000103, b"\0\0\0\2"),
    (r.GroupActivate(2, b"blob"), 0x1C2, 0x02000104, b"\0\0\0\2\0\0\0\4blob"),
    (r.GroupRegister(2, K, L, SELECT), 0x1C2, 0x02000105, b"\0\0\0\2" + K + L + SELECT_OCTETS),
    (r.GroupUpdate(2, L, b"list"), 0x1C2, 0x02000106, b"\0\0\0\2" + L + b"list"),
    (r.GroupShow(2), 0x1C2, 0x02000107, b"\0\0\0\2"),
    (r.GroupQuote(2, N, SELECT), 0x1C2, 0x02000108, b"\0\0\0\2" + N + SELECT_OCTETS),
    (r.GroupRecover1(2, AIK, N, SELECT), 0x1C2, 0x02000109,
     b"\0\0\0\2" + encode(AIK) + N + SELECT_OCTETS),
    (r.GroupRecover2(2, K, B), 0x1C2, 0x0200010A, b"\0\0\0\2" + K + B),
    (r.VtpmList(2, 3), 0x1C2, 0x02000201, b"\0\0\0\2\0\0\0\3"),
    (r.VtpmShow(U), 0x1C2, 0x02000202, U),
    (r.VtpmEdit(U, 2, 1, H), 0x1C2, 0x02000203, U + b"\0\0\0\2\0\0\0\1" + H),
    (r.VtpmNew(2, b""), 0x1C2, 0x02000204, b"\0\0\0\2"),
    (r.VtpmNew(2, U), 0x1C2, 0x02000204, b"\0\0\0\2" + U),
    (r.VtpmDel(U), 0x1C2, 0x02000205, U),
    (r.MakeIdentity(H), 0x1C2, 0x02000301, H),
    (r.ActivateIdentity(AIK, b"blob"), 0x1C2, 0x02000302, encode(AIK) + b"\0\0\0\4blob"),
    (r.ReadPubek(), 0x1C2, 0x02000303, b""),
    (r.NVDefineSpace(0x10, 32, N), 0x1C2, 0x02000304, b"\0\0\0\x10\0\0\0\x20" + N),
    (r.NVWriteValue(0x10, 4, N, b"data"), 0x1C2, 0x02000305,
     b"\0\0\0\x10\0\0\0\4" + N + b"\0\0\0\4data"),
    (r.NVReadValue(0x10, 4, 8, N), 0x1C2, 0x02000306, b"\0\0\0\x10\0\0\0\4\0\0\0\x08" + N),
]

RESPONSES: list[tuple[r.Request[Any], Wire, bytes]] = [
    (r.LoadHashKey(), r.LoadHashKeyResponse(b"k" * 64), b"k" * 64),
    (r.GetBootHash(), r.GetBootHashResponse(H), H),
    (r.GetQuote(N, SELECT, 0), r.GetQuoteResponse(K, H), K + H),
    (r.GroupList(), r.GroupListResponse(2), b"\0\0\0\2"),
    (r.GroupNew(H, K), r.GroupNewResponse(U, K, L, b""), U + K + L),
    (r.GroupDel(2), r.Nothing(), b""),
    (r.GroupRegister(2, K, L, SELECT), r.GroupRegisterResponse(K, B, L, b""), K + B + L),
    (r.GroupShow(2), r.GroupShowResponse(U, K, b"list"), U + K + b"list"),
    (r.GroupRecover1(2, AIK, N, SELECT), r.GroupRecover1Response(K, L, b""), K + L),
    (r.VtpmList(2, 0), r.VtpmListResponse(1, U), b"\0\0\0\1" + U),
    (r.VtpmNew(2, b""), r.VtpmNewResponse(U), U),
]


@pytest.mark.parametrize(("request_", "tag", "ordinal", "body"), REQUESTS,
                         ids=[type(q).__name__ for q, *_ in REQUESTS])
def test_a_request_has_the_members_of_the_header_in_order(
        request_: r.Request[Any], tag: int, ordinal: int, body: bytes) -> None:
    octets = tag.to_bytes(2, "big") + (10 + len(body)).to_bytes(4, "big") + ordinal.to_bytes(4, "big") + body
    assert r.pack_request(request_) == octets
    assert r.REQUESTS["1.2"][ordinal] is type(request_)
    assert decode(type(request_), body) == request_


@pytest.mark.parametrize(("request_", "response", "body"), RESPONSES,
                         ids=[type(a).__name__ for _, a, _ in RESPONSES])
def test_a_response_has_the_members_of_the_header_in_order(
        request_: r.Request[Any], response: Wire, body: bytes) -> None:
    octets = b"\x01\xc4" + (10 + len(body)).to_bytes(4, "big") + bytes(4) + body
    assert r.read_response(request_, octets) == response
    assert encode(response) == body


def test_every_ordinal_of_the_header_is_declared_for_both_families() -> None:
    declared = {q.ORD for q, *_ in REQUESTS}
    assert len(declared) == 25
    for family in "1.2", "2.0":
        assert set(r.REQUESTS[family]) == declared
        for ordinal, kind in r.REQUESTS[family].items():
            assert ordinal == kind.ORD
            assert (ordinal > 4) == kind.MANAGEMENT
            assert members(response_of(kind)) is not None


@pytest.mark.parametrize(("response", "says"), [
    (b"", "GroupList: a response of 0 octets"),
    (bytes.fromhex("01c4 0000000b 00000000"), "says 11"),
    (bytes.fromhex("8001 0000000a 00000142"), "tag 0x8001"),
    (bytes.fromhex("01c4 0000000b 00000000 00"), "cut short or too long"),
    (bytes.fromhex("01c4 0000000f 00000000 0000000200"), "cut short or too long"),
    (bytes.fromhex("01c5 0000000a 00000001"), "the manager answered TPM_AUTHFAIL"),
    (bytes.fromhex("01c4 0000000a 00000002"), "the manager answered TPM_BADINDEX"),
    (bytes.fromhex("01c4 00000012 00000002") + b"answered", "answered"),
])
def test_a_bad_response_is_one_clear_line(response: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says) as caught:
        r.read_response(r.GroupList(), response)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, r.Refusal) == ("answered" in says)


def test_secrets_are_in_no_repr() -> None:
    for value in r.SaveHashKey(b"secret" * 10), r.NVDefineSpace(1, 2, b"secret".ljust(20)):
        assert "secret>" in repr(value)
        assert b"secret".hex() not in repr(value)


@given(st.sampled_from([k for f in ("1.2", "2.0") for k in r.REQUESTS[f].values()]), st.binary(max_size=700))
def test_any_octets_are_read_or_refused_and_what_is_read_is_written_again(
        kind: type[r.Request[Wire]], body: bytes) -> None:
    try:
        found = decode(kind, body)
    except TpmError:
        return
    assert encode(found) == body


def test_the_documented_ordinals_are_those_that_there_are() -> None:
    """docs/manager-protocol.md has a row for each."""
    text = (Path(__file__).parents[2] / "docs" / "manager-protocol.md").read_text()
    documented = re.findall(r"^\| (0x[0-9A-F]{8}) \| (\w+) \|", text, re.MULTILINE)
    names = {name.removeprefix("VTPM_ORD_").removeprefix("VTPM_NV_"): value for name, value in vars(r).items()
             if name.startswith(("VTPM_ORD_", "VTPM_NV_"))}
    assert {name.removeprefix("NV_"): int(ordinal, 16) for ordinal, name in documented} == names
    assert set(names.values()) == set(r.REQUESTS["1.2"])
