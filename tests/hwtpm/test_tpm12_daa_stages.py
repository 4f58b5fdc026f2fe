"""What each stage of TPM_DAA_Join and TPM_DAA_Sign refuses, with the same codes as swtpm (Part 3, 26)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from functools import cache
from hashlib import sha1
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.client12 import Client
from hwtpm.errors import TpmError
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.context import FlushSpecific
from hwtpm.tpm12.requests.storage import EvictKey
from hwtpm.tpm12.types import codes as rc
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.key import TPM_PUBKEY
from tests.support.daa import Issuer, Join, Protocol, Sign, issuer, octets, u32
from tests.support.tpm12 import OWNER_AUTH, STORAGE_PARMS, once, owned, signing_key
from tests.support.tpm12_both import owned_pair

MESSAGE = b"a message to sign..."
Change = bytes | Callable[[bytes], bytes] | None


def cut(octets: bytes) -> bytes:
    return octets[:-1]


def longer(octets: bytes) -> bytes:
    return octets + b"\0"


def flipped(octets: bytes) -> bytes:
    return octets[:-1] + bytes([octets[-1] ^ 2])


def tagged(octets: bytes) -> bytes:
    return b"\0\x30" + octets[2:]


class Bad(NamedTuple):
    """At *stage*, with one input changed, the code is *rc*."""

    stage: int
    rc: int
    data0: Change = None
    data1: Change = None


D0, D1 = rc.TPM_DAA_INPUT_DATA0, rc.TPM_DAA_INPUT_DATA1
JOIN = [
    Bad(0, D0, b""), Bad(0, D0, bytes(3)), Bad(0, D0, u32(0)), Bad(0, D0, b"\0\0\0\1\0"),
    Bad(1, D0, cut), Bad(1, D0, longer),
    Bad(2, D0, cut), Bad(2, D0, longer), Bad(2, D0, tagged), Bad(2, D1, None, cut), Bad(2, D1, None, longer),
    Bad(2, rc.TPM_DAA_ISSUER_VALIDITY, flipped), Bad(2, rc.TPM_DAA_ISSUER_VALIDITY, None, flipped),
    Bad(3, D0, cut), Bad(3, D0, longer),
    *(Bad(stage, D0, flipped) for stage in (4, 5, 6, 7, 9, 10, 11, 12)),
    *(Bad(stage, D1, None, flipped) for stage in (4, 5, 6, 7, 9, 10, 11, 12)),
    Bad(8, D0, cut), Bad(8, D0, longer), Bad(8, rc.TPM_DECRYPT_ERROR, flipped),
    Bad(13, D0, flipped), Bad(13, D1, None, cut), Bad(13, D1, None, longer),
    Bad(13, rc.TPM_DAA_WRONG_W, None, octets(2)), Bad(13, rc.TPM_DAA_WRONG_W, None, bytes(256)),
    Bad(14, D0, flipped), Bad(15, D0, flipped),
    Bad(16, D0, cut), Bad(16, D0, longer),
    Bad(22, D0, cut), Bad(22, D0, longer), Bad(23, D0, cut), Bad(23, D0, longer),
]
TOO_LARGE = Bad(23, D0, b"\xff" * 192)  # swtpm enters failure mode
SIGN = [
    Bad(0, D0, cut), Bad(0, D0, longer), Bad(0, D0, tagged), Bad(0, D0, b""),
    Bad(1, D0, cut), Bad(1, D0, longer), Bad(1, D0, flipped), Bad(1, D0, tagged), Bad(1, D0, b""),
    *(Bad(stage, D0, flipped) for stage in (2, 3, 4, 5, 6, 7, 8)),
    *(Bad(stage, D1, None, flipped) for stage in (2, 3, 4, 5)),
    Bad(6, D1, None, cut), Bad(6, rc.TPM_DAA_WRONG_W, None, octets(2)),
    Bad(9, D0, cut), Bad(9, D0, longer),
    Bad(10, D0, b""), Bad(10, D0, b"\2"), Bad(10, D0, b"\1\0"), Bad(10, D1, None, cut),
    Bad(10, D1, None, longer), Bad(10, D1, b"\0", b""), Bad(10, D1, b"\0", u32(0x00C0FFEE)),
    Bad(10, D1, b"\0", bytes(3)), Bad(10, D1, b"\0", bytes(5)), Bad(10, D1, b"\0", u32(c.TPM_KH_SRK)),
    *(Bad(stage, D0, change) for stage in (13, 14, 15) for change in (flipped, cut, longer, b"")),
]


class Tpm:
    """One TPM that has joined, and how it answers."""

    def __init__(self, client: Client, pubek: TPM_PUBKEY) -> None:
        self.client, self.pubek = client, pubek
        self.credential = self.join().finish()

    def join(self, by: Issuer | None = None) -> Join:
        return Join(self.client, by or issuer(), self.pubek)

    def sign(self) -> Sign:
        return Sign(self.client, issuer(), self.credential, MESSAGE)

    def begun(self, kind: str, stage: int) -> Protocol:
        """Return a "join" or a signature ("sign") that has come to *stage*."""
        host: Protocol = getattr(self, kind)()
        host.to(stage)
        return host

    def spoil(self, kind: str, bad: Bad) -> int:
        """Return the code of a stage that goes wrong, and with which the session has ended."""
        host = self.begun(kind, bad.stage)
        right = host.inputs()
        given = (change(data) if callable(change) else change
                 for change, data in zip((bad.data0, bad.data1), right, strict=True))
        return self.code(host, *given)

    def code(self, host: Protocol, data0: bytes | None = None, data1: bytes | None = None,
             stage: int | None = None) -> int:
        try:
            self.client.run(host.request(data0, data1, stage), once(self.client.oiap(OWNER_AUTH)))
        except TpmError as error:
            assert self.client.run(GetCapability(c.TPM_CAP_HANDLE, u32(c.TPM_RT_DAA_TPM))).resp == bytes(2)
            return error.rc
        return rc.TPM_SUCCESS


class Ours(Tpm):
    """Ours need not begin anew: its sessions are kept as they were at each stage."""

    def __init__(self) -> None:
        self.machine = owned()
        modulus = self.machine.tpm.permanent.endorsement_key.public.pub_key
        super().__init__(self.machine.client, TPM_PUBKEY(STORAGE_PARMS, modulus))
        self.states: dict[tuple[str, int], tuple[Protocol, bytes]] = {}
        for kind in "join", "sign":
            host = super().begun(kind, 0)
            while host.stage < host.STAGES:
                now = copy(host)
                now.given = dict(host.given)
                self.states[kind, host.stage] = now, self.machine.tpm.daa.save_volatile()
                host.step()

    def begun(self, kind: str, stage: int) -> Protocol:
        host, sessions = self.states[kind, stage]
        self.machine.tpm.daa.restore_volatile(sessions)
        return host


@cache
def kept() -> Ours:
    return Ours()


@pytest.fixture
def ours() -> Ours:
    return kept()


@pytest.fixture(scope="module")
def both() -> Iterator[list[Tpm]]:
    with owned_pair() as pair:
        yield [Tpm(client, ek) for client, ek in zip(pair.clients, pair.pubeks, strict=True)]


def differing(**values: int) -> Issuer:
    """Return an issuer who publishes numbers that are not what they should be."""
    found = copy(issuer())
    numbers: dict[str, Any] = {"zeta": issuer().zeta, **values}
    for name, value in numbers.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize("bad", [*JOIN, TOO_LARGE], ids=str)
def test_a_join_refuses(ours: Ours, bad: Bad) -> None:
    assert ours.spoil("join", bad) == bad.rc


@pytest.mark.parametrize("bad", SIGN, ids=str)
def test_a_signature_refuses(ours: Ours, bad: Bad) -> None:
    assert ours.spoil("sign", bad) == bad.rc


def test_a_signature_needs_an_identity_key(ours: Ours) -> None:
    handle = signing_key(ours.client)
    assert ours.spoil("sign", Bad(10, D1, b"\0", u32(handle))) == D1
    ours.client.run(EvictKey(handle))


def test_every_link_of_the_chain_is_signed_by_the_one_before(ours: Ours) -> None:
    for change, code in (cut, D1), (flipped, rc.TPM_DAA_ISSUER_VALIDITY):
        host = ours.join(issuer(2))
        host.to(1)
        host.step()
        modulus, signature = host.inputs()
        assert ours.code(host, modulus, change(signature)) == code
    host = ours.join(issuer(2))
    host.to(1)
    host.step(bytes(256))  # no key at all
    assert ours.code(host) == rc.TPM_DAA_ISSUER_VALIDITY


def test_the_credential_of_another_issuer_is_refused(ours: Ours) -> None:
    host = ours.sign()
    host.issuer = differing(rho=issuer().rho + 2)
    host.to(1)
    assert ours.code(host) == rc.TPM_DAA_ISSUER_SETTINGS


# What an issuer publishes need not be what it should be: the stage at which that shows, and the code.
ISSUERS = [
    ({"n": issuer().n + 1}, 4, rc.TPM_DAA_WRONG_W),
    ({"n": 0}, 4, rc.TPM_DAA_WRONG_W),
    ({"rho": 0}, 4, rc.TPM_DAA_WRONG_W),
    ({"gamma": issuer().gamma + 1}, 13, rc.TPM_DAA_WRONG_W),
    ({"gamma": 1}, 13, rc.TPM_DAA_WRONG_W),
    ({"gamma": 0}, 13, rc.TPM_DAA_WRONG_W),
    ({"n": 1}, 13, rc.TPM_SUCCESS),  # whatever it proves
    ({"rho": 1}, 5, rc.TPM_SUCCESS),
]


@pytest.mark.parametrize(("numbers", "stage", "code"), ISSUERS)
def test_nothing_an_issuer_publishes_is_trusted(ours: Ours, numbers: dict[str, int], stage: int,
                                                code: int) -> None:
    assert at(ours, differing(**numbers), stage) == code


def at(tpm: Tpm, by: Issuer, stage: int) -> int:
    """Return the code of a stage with that issuer; no session is left."""
    host = tpm.join(by)
    host.to(stage)
    code = tpm.code(host)
    if code == rc.TPM_SUCCESS:
        tpm.client.run(FlushSpecific(host.handle, c.TPM_RT_DAA_TPM))
    return code


def test_a_modulus_of_more_than_2048_bits_is_refused(ours: Ours) -> None:
    by = differing()
    long = b"\1" + octets(by.n)
    host = ours.join(by)
    host.to(2)
    settings = by.settings
    settings.digest_n = sha1(long).digest()
    host.step(*by.sign_settings(settings))
    host.to(4)
    assert ours.code(host, None, long) == rc.TPM_SIZE


@st.composite
def garbage(draw: Any, right: bytes) -> bytes:
    """*right*, changed in an octet or in length, or anything at all."""
    kind = draw(st.integers(0, 3))
    if kind == 0 or not right:
        return right
    if kind == 1:
        at = draw(st.integers(0, len(right) - 1))
        return right[:at] + draw(st.binary(min_size=1, max_size=1)) + right[at + 1 :]
    if kind == 2:
        return right[: draw(st.integers(0, len(right)))] + draw(st.binary(max_size=3))
    return draw(st.binary(max_size=300))  # type: ignore[no-any-return]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_a_host_sends_gets_an_answer(data: st.DataObject) -> None:
    """An error ends the session, and nothing changes for good; a success goes to the next stage."""
    tpm = kept()
    kind, stage = data.draw(st.sampled_from(sorted(tpm.states)))
    host = tpm.begun(kind, stage)
    before = tpm.machine.durable
    given0, given1 = (data.draw(garbage(right)) for right in host.inputs())
    other = data.draw(st.sampled_from([stage] * 9 + [stage + 1, 255]))
    code = tpm.code(host, given0, given1, other)
    if code == rc.TPM_SUCCESS and stage + 1 < host.STAGES:
        (session,) = tpm.machine.tpm.daa.open.values()
        assert session.context.stage == stage + 1
    assert tpm.machine.durable == before


def test_swtpm_refuses_with_the_same_codes(both: list[Tpm]) -> None:
    first, second = both
    for bad in JOIN[::4]:
        assert first.spoil("join", bad) == second.spoil("join", bad), bad
    for bad in SIGN[::4]:
        assert first.spoil("sign", bad) == second.spoil("sign", bad), bad
    for numbers, stage, code in ISSUERS:
        assert [at(tpm, differing(**numbers), stage) for tpm in both] == [code, code], numbers


def test_swtpm_takes_stages_in_the_same_order(both: list[Tpm]) -> None:
    for stage, other in (1, 2), (2, 1), (4, 25):
        for kind in "join", "sign":
            found = [tpm.code(tpm.begun(kind, stage), stage=other) for tpm in both]
            assert found == [rc.TPM_DAA_STAGE, rc.TPM_DAA_STAGE], (kind, stage, other)
