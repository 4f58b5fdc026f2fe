"""Groups over the protocol: every ordinal on a chip of either family, and each way to be refused."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest

from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_PARAMETER,
    TPM_BADINDEX,
    TPM_DECRYPT_ERROR,
    TPM_DISABLED,
    TPM_ENCRYPT_ERROR,
    TPM_FAIL,
    TPM_INAPPROPRIATE_SIG,
    TPM_KEYNOTFOUND,
    TPM_NOSPACE,
    TPM_SIZE,
)
from manager import requests as r
from manager.cfglist import read_cfg_list
from manager.closed import ClosedManager
from manager.opening import RootClosed
from manager.quote import MEANING_XEN, Meaning
from manager.verify import (
    Known,
    verify_binding,
    verify_group_quote,
    verify_quote,
    verify_recovery,
    verify_registration,
)
from tests.manager.chips import KINDS, TestChip, chip_of
from tests.manager.stores import A, B
from tests.support.managed_groups import KERNEL, KERNEL_LABEL, LABEL, PCRS, Host, state, uuids
from tests.support.saa import MODP_2048, Saa, activation12, activation20, kernel, xor

NONCE = b"N" * 20
KEY = b"k" * 64
BEYOND = b"\xff\0\0\1"  # a selection with a 25th PCR
MEANINGS = pytest.mark.parametrize("meaning", [Meaning(), MEANING_XEN], ids=["documented", "xen"])


@pytest.fixture(params=KINDS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    yield from hosted(chip_of(request.param, tmp_path / "chip"), tmp_path)


@pytest.fixture(params=["1.2", "2.0"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """A host with a chip of ours, for what needs no other implementation."""
    yield from hosted(chip_of(f"own-{request.param}", tmp_path / "chip"), tmp_path)


def hosted(chip: TestChip, tmp_path: Path) -> Iterator[Host]:
    made = Host(chip, tmp_path / "manager.db")
    yield made
    made.close()
    chip.close()


# GROUP_LIST, GROUP_NEW, GROUP_SHOW


def test_the_first_group_is_there_and_is_provisioned_by_the_first_group_new(host: Host) -> None:
    assert host.ask(r.GroupList()).count == 1
    stub = host.ask(r.GroupShow(0))
    assert stub.pubkey == bytes(256)
    assert stub.cfg_list == bytes(16)
    made = host.new_group()
    assert host.ask(r.GroupList()).count == 1
    assert made.group_uuid == stub.group_uuid
    assert host.ask(r.GroupShow(0)).pubkey == host.saa.modulus
    says = verify_binding(host.family, r.GroupNew(LABEL, host.saa.modulus), made)
    assert len(says) == 2
    host.restart()
    assert host.ask(r.GroupShow(0)).pubkey == host.saa.modulus


def test_further_groups_have_saas_and_keys_of_their_own(own: Host) -> None:
    host, other = own, Saa(own.family, 21)
    first, second = host.new_group(), host.new_group(other)
    assert host.ask(r.GroupList()).count == 2
    assert first.group_uuid != second.group_uuid
    assert UUID(bytes=second.group_uuid).version == 4
    assert first.aik_pub_key != second.aik_pub_key
    assert host.ask(r.GroupShow(1)).pubkey == other.modulus
    host.restart()
    assert host.ask(r.GroupShow(1)).group_uuid == second.group_uuid


@pytest.mark.parametrize("modulus", [bytes(256), b"\1" * 256, b"\xff" * 255 + b"\xfe"],
                         ids=["zeros", "too short", "even"])
def test_a_modulus_that_is_none_makes_no_group(own: Host, modulus: bytes) -> None:
    own.refused(TPM_BAD_PARAMETER, r.GroupNew(LABEL, modulus))


INDEXED: list[Callable[[int], r.Request[object]]] = [
    r.GroupDel,
    r.GroupShow,
    lambda n: r.GroupActivate(n, b"blob"),
    lambda n: r.GroupRegister(n, bytes(256), bytes(256), PCRS),
    lambda n: r.GroupUpdate(n, bytes(256), bytes(16)),
    lambda n: r.GroupQuote(n, NONCE, PCRS),
    lambda n: r.GroupRecover2(n, bytes(256), bytes(32)),
    lambda n: r.VtpmList(n, 0),
    lambda n: r.VtpmNew(n, b""),
]


def test_a_group_that_there_is_not_is_badindex(own: Host) -> None:
    """Xen's GROUP_DEL lets the first index beyond the end pass."""
    for index in 1, 2, 0xFFFFFFFF:
        for request in INDEXED:
            own.refused(TPM_BADINDEX, request(index))


def test_a_group_without_an_saa_cannot_do_what_needs_one(own: Host) -> None:
    for request in (r.GroupActivate(0, b""), r.GroupRegister(0, bytes(256), bytes(256), PCRS),
                    own.update(0, 1), r.GroupQuote(0, NONCE, PCRS)):
        own.refused(TPM_KEYNOTFOUND, request)


# GROUP_DEL


def test_groups_behind_a_deleted_one_move_down(own: Host) -> None:
    host = own
    made = [host.new_group(Saa(host.family, number)) for number in (20, 21, 22, 23)]
    host.ask(r.VtpmNew(1, A.bytes))
    host.ask(r.GroupDel(1))
    assert host.ask(r.GroupList()).count == 3
    assert [host.ask(r.GroupShow(n)).group_uuid for n in range(3)] == [made[n].group_uuid for n in (0, 2, 3)]
    host.refused(TPM_BADINDEX, r.GroupShow(3))
    host.refused(TPM_FAIL, r.VtpmShow(A.bytes))
    host.restart()
    assert [host.ask(r.GroupShow(n)).group_uuid for n in range(3)] == [made[n].group_uuid for n in (0, 2, 3)]


def test_the_first_group_and_one_with_a_running_vtpm_cannot_be_deleted(own: Host) -> None:
    host = own
    host.refused(TPM_FAIL, r.GroupDel(0))
    host.new_group()
    host.new_group(Saa(host.family, 21))
    host.refused(TPM_FAIL, r.GroupDel(0))
    host.ask(r.VtpmNew(1, A.bytes))
    guest = host.guest(A)
    host.ask(r.SaveHashKey(KEY), guest)
    host.refused(TPM_FAIL, r.GroupDel(1))
    guest.close()
    host.ask(r.GroupDel(1))
    host.refused(TPM_BAD_PARAMETER, r.LoadHashKey(), host.guest(A))


# GROUP_ACTIVATE, MakeIdentity, ActivateIdentity, ReadPubek


def activation(host: Host, aik: bytes, public: r.IdentityKey20 | None, secret: bytes) -> bytes:
    """Return what a privacy CA sends for the key, whose endorsement key it asks for."""
    from hwtpm.wire import encode

    endorsement = encode(host.ask(
        r.ReadPubek() if host.family == "1.2" else r.ReadPubekWith20()).pub_endorsement_key)
    return activation12(endorsement, aik, secret) if public is None else activation20(
        endorsement, public.public, secret)


def opened(host: Host, secret: bytes) -> bytes:
    """Return what GROUP_ACTIVATE answers: a TPM_SYMMETRIC_KEY, or a TPM2B_DIGEST."""
    return (struct.pack(">IHH", 6, 0xFF, 16) if host.family == "1.2" else b"\0\x10") + secret


def public_of(made: r.GroupNewResponse) -> r.IdentityKey20:
    """Return the key's public area, which is after the statement."""
    from hwtpm.tpm2.types.objects import TPMT_PUBLIC
    from hwtpm.wire import decode

    end = 2 + int.from_bytes(made.rest[:2], "big")
    return r.IdentityKey20(b"", decode(TPMT_PUBLIC, made.rest[end + 2 :]))


def test_a_privacy_ca_activates_the_key_of_a_group(host: Host) -> None:
    made, secret = host.new_group(), os.urandom(16)
    public = public_of(made) if host.family == "2.0" else None
    sent = activation(host, made.aik_pub_key, public, secret)
    assert host.ask(r.GroupActivate(0, sent)).key == opened(host, secret)
    host.new_group(Saa(host.family, 21))
    host.refused(TPM_BAD_PARAMETER, r.GroupActivate(1, sent))  # another key
    host.restart()
    assert host.ask(r.GroupActivate(0, sent)).key == opened(host, secret)


@pytest.mark.parametrize("blob", [b"", b"x", b"x" * 256, b"x" * 600])
def test_what_no_privacy_ca_has_sent_is_refused(own: Host, blob: bytes) -> None:
    own.new_group()
    before = state(own.manager)
    with pytest.raises(r.Refusal):
        own.ask(r.GroupActivate(0, blob))
    assert state(own.manager) == before
    own.chip.nothing_is_loaded()


def test_an_identity_without_a_group_is_made_and_activated(host: Host) -> None:
    secret = os.urandom(16)
    if host.family == "1.2":
        key = host.ask(r.MakeIdentity(LABEL)).id_key
        sent = activation(host, key.pub_key, None, secret)
        answer = host.ask(r.ActivateIdentity(key, sent))
    else:
        key20 = host.ask(r.MakeIdentityWith20(LABEL)).id_key
        sent = activation(host, b"", key20, secret)
        answer = host.ask(r.ActivateIdentityWith20(key20, sent))
    assert answer.key == opened(host, secret)
    assert host.ask(r.GroupList()).count == 1


# GROUP_UPDATE


def test_a_signed_list_is_installed_and_shown(host: Host) -> None:
    host.new_group()
    host.ask(host.update(0, 3))
    shown = host.ask(r.GroupShow(0)).cfg_list
    found, end = read_cfg_list(shown, host.family)
    assert end == len(shown)
    assert found == (3, (host.platform(),), (KERNEL,))
    host.restart()
    assert host.ask(r.GroupShow(0)).cfg_list == shown


def test_lists_only_go_forward(own: Host) -> None:
    host = own
    host.new_group()
    old, same = host.update(0, 3), host.update(0, 4)
    host.ask(old)
    host.ask(same)
    before = state(host.manager)
    host.refused(TPM_FAIL, old)
    host.refused(TPM_FAIL, host.update(0, 4, kernels=(kernel("other"),)))
    host.ask(same)  # The same once more changes nothing that is signed.
    shown = host.ask(r.GroupShow(0)).cfg_list
    assert shown[:8] == (4).to_bytes(8, "big")
    assert state(host.manager)[2] == before[2]
    host.restart()
    host.refused(TPM_FAIL, old)
    host.ask(host.update(0, 5))


def test_only_the_groups_own_saa_signs_its_list(own: Host) -> None:
    host, other = own, Saa(own.family, 21)
    host.new_group()
    good = host.update(0, 1)
    changed = r.GroupUpdate(0, good.cfg_list_sig, good.rest[:12] + b"\1" + good.rest[13:])
    host.refused(TPM_DECRYPT_ERROR, changed)
    host.refused(TPM_INAPPROPRIATE_SIG, host.update(0, 1, saa=other))
    host.refused(TPM_INAPPROPRIATE_SIG, r.GroupUpdate(0, bytes(256), good.rest))
    host.refused(TPM_ENCRYPT_ERROR, r.GroupUpdate(0, b"\xff" * 256, good.rest))
    other_hash = Saa("2.0" if host.family == "1.2" else "1.2").sign(good.rest)
    host.refused(TPM_INAPPROPRIATE_SIG, r.GroupUpdate(0, other_hash, good.rest))
    host.new_group(other)
    host.refused(TPM_INAPPROPRIATE_SIG, r.GroupUpdate(1, good.cfg_list_sig, good.rest))
    host.ask(good)


def test_a_list_of_another_form_is_refused(own: Host) -> None:
    host = own
    host.new_group()
    here = host.platform()
    host.refused(TPM_SIZE, host.update(0, 1, [here] * 6))
    host.refused(TPM_SIZE, host.update(0, 1, kernels=(KERNEL,) * 17))
    good = host.update(0, 1)
    for rest in (b"", good.rest[:7], good.rest[:-1], good.rest + b"\0"):
        host.refused(TPM_BAD_PARAMETER, r.GroupUpdate(0, host.saa.sign(rest), rest))
    signed = host.saa.update(1, [(BEYOND, here)], [])
    host.refused(TPM_BAD_PARAMETER, r.GroupUpdate(0, signed[:256], signed[256:]))
    host.ask(host.update(0, 1, [here] + [os.urandom(len(here)) for _ in range(4)], (KERNEL,) * 16))


# GROUP_QUOTE, GET_QUOTE


@MEANINGS
@pytest.mark.parametrize("kind", KINDS)
def test_quotes_are_proven_by_who_knows_the_groups_key(tmp_path: Path, kind: str, meaning: Meaning) -> None:
    chip = chip_of(kind, tmp_path / "chip")
    host = Host(chip, tmp_path / "manager.db", meaning=meaning)
    made = host.new_group()
    host.ask(host.update(0, 1))
    cfg_list = host.ask(r.GroupShow(0)).cfg_list
    known = Known(made.group_uuid, host.saa.modulus, cfg_list, A.bytes, KERNEL)
    pcrs = b"\x81\0\xf0"
    about_group = r.GroupQuote(0, NONCE, pcrs)
    proof = verify_group_quote(
        host.family, made.aik_pub_key, about_group, host.ask(about_group), known, meaning)
    assert list(proof.pcrs) == [0, 7, 20, 21, 22, 23]
    guest = host.guest(A)
    host.ask(r.SaveHashKey(KEY), guest)
    for flags in 0, 15:
        request = r.GetQuote(NONCE, pcrs, flags)
        proof = verify_quote(host.family, made.aik_pub_key, request, host.ask(request, guest), known, meaning)
        assert len(proof.says) == 1 + (4 if meaning.documented_pcrs else 0) + flags.bit_count()
    host.refused(r.VTPM_INVALID_REQUEST, r.GetQuote(NONCE, pcrs, 16), guest)
    host.refused(TPM_BAD_PARAMETER, r.GetQuote(NONCE, BEYOND, 0), guest)
    host.refused(TPM_BAD_PARAMETER, r.GroupQuote(0, NONCE, BEYOND))
    host.close()
    chip.close()


def test_a_vtpm_is_quoted_only_when_it_is_open_and_its_group_has_a_key(own: Host) -> None:
    host, guest = own, own.guest(A)
    request = r.GetQuote(NONCE, PCRS, 0)
    host.refused(TPM_BAD_PARAMETER, request, guest)
    host.ask(r.SaveHashKey(KEY), guest)
    host.refused(TPM_KEYNOTFOUND, request, guest)
    host.new_group()
    host.ask(request, guest)
    guest.close()
    host.refused(TPM_BAD_PARAMETER, request, guest)


def test_quotes_at_the_same_time_are_each_about_their_own_vtpm(own: Host) -> None:
    """Nobody sets the PCRs 20 to 23 between another one's setting and quote."""
    made = own.new_group()
    own.ask(own.update(0, 1))
    known = Known(made.group_uuid, own.saa.modulus, own.ask(r.GroupShow(0)).cfg_list, None, KERNEL)
    request, wrong = r.GetQuote(NONCE, b"\0\0\xf0", 15), []

    def run(uuid: UUID) -> None:
        guest = own.guest(uuid)
        try:
            for number in range(4):
                own.ask(r.SaveHashKey(bytes([number]) * 64), guest)
                verify_quote(own.family, made.aik_pub_key, request, own.ask(request, guest),
                             known._replace(vtpm=uuid.bytes), Meaning())
            assert own.ask(r.LoadHashKey(), guest).keyblob == bytes([3]) * 64
        except BaseException as error:
            wrong.append(error)

    threads = [Thread(target=run, args=(UUID(int=number + 1),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert own.ask(r.VtpmList(0, 0)).total_count == 4


# GROUP_REGISTER, GROUP_RECOVER1, GROUP_RECOVER2


def registration(host: Host, index: int, saa: Saa) -> r.GroupRegister:
    return r.GroupRegister(index, saa.dhkx(), saa.sign(saa.dhkx()), PCRS)


def test_a_group_is_registered_once_and_provably(host: Host) -> None:
    made = host.new_group()
    request = registration(host, 0, host.saa)
    answer = host.ask(request)
    platforms = [b"x" * 20, host.platform()]
    assert verify_registration(
        host.family, made.aik_pub_key, request, answer, platforms, Meaning()) == platforms[1]
    key = xor(answer.recover_blob, host.saa.shared(answer.dhkx_2))
    assert key == host.manager.secret(0)
    host.refused(TPM_FAIL, request)


def test_a_registration_has_to_be_signed_and_of_the_group(own: Host) -> None:
    host, saa = own, own.saa
    host.new_group()
    for proof in bytes(256), saa.sign(b"other"), Saa(host.family, 21).sign(saa.dhkx()):
        host.refused(TPM_FAIL, r.GroupRegister(0, saa.dhkx(), proof, PCRS))
    for number in 0, 1, MODP_2048 - 1, MODP_2048:
        public = number.to_bytes(256, "big")
        host.refused(TPM_BAD_PARAMETER, r.GroupRegister(0, public, saa.sign(public), PCRS))
    host.refused(TPM_BAD_PARAMETER, r.GroupRegister(0, saa.dhkx(), saa.sign(saa.dhkx()), BEYOND))
    host.ask(registration(host, 0, saa))


def test_a_group_is_not_registered_after_a_reset(own: Host) -> None:
    """Its key could have been in another configuration meanwhile (vtpm_manager.h, GROUP_REGISTER)."""
    host, other = own, Saa(own.family, 21)
    host.new_group()
    host.new_group(other)
    host.restart()
    host.ask(registration(host, 0, host.saa))  # The chip was not reset.
    host.ask(registration(host, 1, other))
    host.new_group(Saa(host.family, 22))
    host.restart(power=True)
    host.refused(TPM_FAIL, registration(host, 2, Saa(host.family, 22)))


def test_the_first_group_cannot_be_registered_after_a_reset_either(own: Host) -> None:
    """Its key is as old as the store, whenever it gets its SAA."""
    own.restart(power=True)
    own.new_group()
    own.refused(TPM_FAIL, registration(own, 0, own.saa))


def proxy(host: Host, index: int = 1) -> tuple[r.Request[r.GroupRecover1Response], bytes, bytes]:
    """Return GROUP_RECOVER1 for the group, the modulus of its proxy AIK, and its nonce."""
    nonce = os.urandom(20)
    if host.family == "1.2":
        key = host.ask(r.MakeIdentity(LABEL)).id_key
        return r.GroupRecover1(index, key, nonce, PCRS), key.pub_key, nonce
    key20 = host.ask(r.MakeIdentityWith20(LABEL)).id_key
    unique = key20.public.unique
    assert isinstance(unique, bytes)
    return r.GroupRecover1With20(index, key20, nonce, PCRS), unique, nonce


LATER = b"\0\x10\0"
"""PCR 12, which says nothing about the configurations of the first group."""


def closed_group(host: Host, saa: Saa, *, registered: bool = True) -> bytes:
    """Group 1, with the vTPM A, is closed; return the key that its SAA has."""
    host.new_group()
    host.new_group(saa)
    key = b""
    if registered:
        answer = host.ask(registration(host, 1, saa))
        key = xor(answer.recover_blob, saa.shared(answer.dhkx_2))
    host.ask(host.update(1, 1, saa=saa, pcrs=LATER))
    host.ask(r.VtpmNew(1, A.bytes))
    guest = host.guest(A)
    host.ask(r.SaveHashKey(KEY), guest)
    guest.close()
    host.extend(12, b"something else")
    host.restart()
    return key


def test_a_closed_group_says_so_and_hides_its_vtpms(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    closed_group(host, Saa(host.family, 21))
    guest = host.guest(A)
    host.refused(TPM_DISABLED, r.LoadHashKey(), guest)
    assert "guest a: " in caplog.text
    assert "group 1 is closed: the PCRs 12 are not as in any of its configurations" in caplog.text
    host.refused(TPM_DISABLED, r.SaveHashKey(KEY), guest)
    host.refused(TPM_AUTHFAIL, r.VtpmList(1, 0))
    for request in (r.GroupActivate(1, b""), r.GroupQuote(1, NONCE, PCRS), r.VtpmNew(1, b""),
                    host.update(1, 2, saa=Saa(host.family, 21)), registration(host, 1, Saa(host.family, 21)),
                    r.VtpmShow(A.bytes), r.VtpmDel(A.bytes), r.VtpmEdit(A.bytes, 0, 0, bytes(20))):
        host.refused(TPM_AUTHFAIL, request)
    assert host.ask(r.GroupShow(1)).pubkey == Saa(host.family, 21).modulus
    assert host.ask(r.SaveHashKey(KEY), host.guest(B)) is not None  # The other groups go on.


def test_the_saa_recovers_a_closed_group(host: Host) -> None:
    saa = Saa(host.family, 21)
    key = closed_group(host, saa)
    request, aik, nonce = proxy(host)
    begun = host.ask(request)
    here = host.platform()
    assert verify_recovery(host.family, aik, nonce, PCRS, begun, [here], Meaning()) == here
    blob = xor(key, saa.shared(begun.dhkx_1))
    host.ask(r.GroupRecover2(1, saa.dhkx(), blob))
    assert host.ask(r.LoadHashKey(), host.guest(A)).keyblob == KEY
    host.restart()  # It is sealed to the present configuration, which is not in its list.
    assert host.ask(r.LoadHashKey(), host.guest(A)).keyblob == KEY
    if hasattr(host.chip, "power_cycle"):
        host.restart(power=True)  # And to those that are.
        assert host.ask(r.LoadHashKey(), host.guest(A)).keyblob == KEY


def test_a_recovery_with_another_key_or_without_a_beginning_fails(own: Host) -> None:
    host, saa = own, Saa(own.family, 21)
    key = closed_group(host, saa)
    host.refused(TPM_FAIL, r.GroupRecover2(1, saa.dhkx(), bytes(32)))
    begun = host.ask(proxy(host)[0])
    wrong = xor(xor(key, saa.shared(begun.dhkx_1)), b"\1" + bytes(31))
    host.refused(TPM_DECRYPT_ERROR, r.GroupRecover2(1, saa.dhkx(), wrong))
    good = r.GroupRecover2(1, saa.dhkx(), xor(key, saa.shared(begun.dhkx_1)))
    host.refused(TPM_FAIL, good)  # An exchange is used once.
    begun = host.ask(proxy(host)[0])
    host.refused(TPM_BAD_PARAMETER, r.GroupRecover2(1, bytes(256), bytes(32)))
    begun = host.ask(proxy(host)[0])
    host.ask(r.GroupRecover2(1, saa.dhkx(), xor(key, saa.shared(begun.dhkx_1))))
    host.refused(TPM_FAIL, proxy(host)[0])  # It is open.


def test_a_group_that_was_never_registered_cannot_be_recovered(own: Host) -> None:
    closed_group(own, Saa(own.family, 21), registered=False)
    own.refused(TPM_FAIL, proxy(own)[0])
    own.ask(r.GroupDel(1))  # But it can be deleted.
    assert own.ask(r.GroupList()).count == 1


def test_the_saa_of_the_first_group_recovers_the_whole_manager(host: Host) -> None:
    host.new_group()
    answer = host.ask(registration(host, 0, host.saa))
    key = xor(answer.recover_blob, host.saa.shared(answer.dhkx_2))
    host.ask(host.update(0, 1))
    guest = host.guest(A)
    host.ask(r.SaveHashKey(KEY), guest)
    host.extend(7, b"another system")
    host.close()
    says = r"manager\.db: the chip does not unseal the root key: its PCRs \(0, "
    with pytest.raises(RootClosed, match=says) as shut:
        host.open()
    before = host.path.read_bytes()
    host.manager = ClosedManager(host.path, host.chip.sealing, os.urandom, shut.value.pcrs)
    host.serve()
    assert host.ask(r.GroupList()).count == 1
    for request in (r.GroupShow(0), r.VtpmList(0, 0), r.GroupNew(LABEL, host.saa.modulus), r.GroupDel(0),
                    r.VtpmShow(A.bytes), host.update(0, 2)):
        with pytest.raises(r.Refusal):
            host.ask(request)
    for request in r.LoadHashKey(), r.SaveHashKey(KEY):
        with pytest.raises(r.Refusal, match="TPM_DISABLED"):
            host.ask(request, host.guest(A))
    recover, aik, nonce = proxy(host, 0)
    begun = host.ask(recover)
    here = host.platform()
    assert verify_recovery(host.family, aik, nonce, PCRS, begun, [here], Meaning()) == here
    wrong = r.GroupRecover2(0, host.saa.dhkx(), xor(key, host.saa.shared(begun.dhkx_1))[::-1])
    with pytest.raises(r.Refusal, match="not the key of the first group"):
        host.ask(wrong)
    assert host.path.read_bytes() == before
    begun = host.ask(proxy(host, 0)[0])
    host.ask(r.GroupRecover2(0, host.saa.dhkx(), xor(key, host.saa.shared(begun.dhkx_1))))
    host.open()
    assert host.ask(r.LoadHashKey(), host.guest(A)).keyblob == KEY


# vTPMs


def test_vtpms_are_made_listed_shown_and_deleted(host: Host) -> None:
    given = host.ask(r.VtpmNew(0, B.bytes))
    assert given.vtpm_uuid == B.bytes
    made = UUID(bytes=host.ask(r.VtpmNew(0, b"")).vtpm_uuid)
    assert made.version == 4
    listed = host.ask(r.VtpmList(0, 0))
    assert (listed.total_count, uuids(listed.uuids)) == (2, [B, made])
    shown = host.ask(r.VtpmShow(B.bytes))
    assert shown.group_uuid == host.ask(r.GroupShow(0)).group_uuid
    assert (shown.group_id, shown.flags, shown.kern_hash) == (0, 0, bytes(20))
    host.ask(r.VtpmDel(B.bytes))
    assert uuids(host.ask(r.VtpmList(0, 0)).uuids) == [made]
    host.restart()
    assert uuids(host.ask(r.VtpmList(0, 0)).uuids) == [made]
    host.refused(TPM_FAIL, r.VtpmDel(B.bytes))


def test_a_long_list_comes_in_parts(own: Host) -> None:
    made = [UUID(int=number + 1) for number in range(300)]
    with own.manager.change() as change:
        from manager.model import Vtpm

        for uuid in made:
            change.put_vtpm(uuid, Vtpm(), 0)
    found: list[UUID] = []
    while len(found) < 300:
        part = own.ask(r.VtpmList(0, len(found)))
        assert part.total_count == 300
        assert 0 < len(part.uuids) <= 4088 - 14
        found += uuids(part.uuids)
    assert found == made
    for offset in 300, 301, 0xFFFFFFFF:
        assert own.ask(r.VtpmList(0, offset)) == r.VtpmListResponse(300, b"")


def test_foreign_uuids_and_wrong_sizes_are_refused(own: Host) -> None:
    own.ask(r.VtpmNew(0, A.bytes))
    own.refused(TPM_FAIL, r.VtpmNew(0, A.bytes))
    for size in 1, 15, 17:
        own.refused(TPM_BAD_PARAMETER, r.VtpmNew(0, bytes(size)))
    for request in r.VtpmDel(B.bytes), r.VtpmShow(B.bytes), r.VtpmEdit(B.bytes, 0, 0, bytes(20)):
        own.refused(TPM_FAIL, request)


def test_a_vtpm_that_runs_cannot_be_deleted_or_moved(own: Host) -> None:
    host, guest = own, own.guest(A)
    host.new_group()
    host.new_group(Saa(host.family, 21))
    host.ask(r.SaveHashKey(KEY), guest)
    assert host.ask(r.VtpmShow(A.bytes)).flags == 1 | 1 << 31
    host.refused(TPM_FAIL, r.VtpmDel(A.bytes))
    host.refused(TPM_FAIL, r.VtpmEdit(A.bytes, 1, 0, bytes(20)))
    guest.close()
    assert host.ask(r.VtpmShow(A.bytes)).flags == 1
    host.ask(r.VtpmEdit(A.bytes, 1, 0, bytes(20)))
    shown = host.ask(r.VtpmShow(A.bytes))
    assert (shown.group_id, shown.flags) == (1, 0)
    assert host.ask(r.LoadHashKey(), host.guest(A)).keyblob == KEY


def test_an_edited_vtpm_is_opened_by_its_kernel_only(own: Host) -> None:
    host = own
    host.ask(r.VtpmNew(0, A.bytes))
    host.ask(r.VtpmEdit(A.bytes, 0, 0, KERNEL))
    assert host.ask(r.VtpmShow(A.bytes)).kern_hash == KERNEL
    host.refused(TPM_DISABLED, r.SaveHashKey(KEY), host.guest(A, "other:label"))
    host.ask(r.SaveHashKey(KEY), host.guest(A))
    for flags in 2, 1 << 31:
        host.refused(TPM_BAD_PARAMETER, r.VtpmEdit(A.bytes, 0, flags, bytes(20)))
    host.refused(TPM_BADINDEX, r.VtpmEdit(A.bytes, 1, 0, bytes(20)))


# Who may do what


def test_the_first_vtpm_administrates_once_it_is_open_and_no_other(own: Host) -> None:
    host, first, second = own, own.guest(A), own.guest(B)
    request = r.GroupList()
    auth_fail = bytes.fromhex("01c5 0000000a 00000001")
    assert first.execute(r.pack_request(request)) == auth_fail
    host.ask(r.SaveHashKey(KEY), first)
    host.ask(r.SaveHashKey(KEY), second)
    assert host.ask(request, first).count == 1
    for octets in (r.pack_request(request), r.pack_request(r.GroupDel(0)),
                   bytes.fromhex("01c2 0000000a 02000999")):
        assert second.execute(octets) == auth_fail
    host.ask(r.VtpmEdit(A.bytes, 0, 0, bytes(20)))
    host.ask(r.VtpmEdit(B.bytes, 0, 1, bytes(20)))
    assert first.execute(r.pack_request(request)) == auth_fail
    assert host.ask(request, second).count == 1
    first.close()
    second.close()
    assert second.execute(r.pack_request(request)) == auth_fail


def test_no_vtpm_administrates_if_none_is_to(tmp_path: Path) -> None:
    chip = chip_of("own-2.0", tmp_path / "chip")
    host = Host(chip, tmp_path / "manager.db", guests_administrate=False)
    guest = host.guest(A)
    host.ask(r.SaveHashKey(KEY), guest)
    assert guest.execute(r.pack_request(r.GroupList()))[6:10] == bytes((0, 0, 0, TPM_AUTHFAIL))
    host.close()
    chip.close()


def test_a_vtpm_is_open_once(own: Host) -> None:
    host, one, two = own, own.guest(A), own.guest(A)
    host.ask(r.SaveHashKey(KEY), one)
    host.refused(TPM_DISABLED, r.LoadHashKey(), two)
    host.refused(TPM_DISABLED, r.SaveHashKey(KEY), two)
    two.close()  # It has nothing open.
    host.refused(TPM_DISABLED, r.LoadHashKey(), two)
    one.close()
    assert host.ask(r.LoadHashKey(), two).keyblob == KEY
    host.refused(TPM_DISABLED, r.LoadHashKey(), one)


def test_an_unknown_vtpm_is_not_made_where_that_is_forbidden(tmp_path: Path) -> None:
    chip = chip_of("own-1.2", tmp_path / "chip")
    host = Host(chip, tmp_path / "manager.db", auto_create=False)
    guest = host.guest(A)
    for request in r.LoadHashKey(), r.SaveHashKey(KEY):
        host.refused(TPM_BAD_PARAMETER, request, guest)
    host.ask(r.VtpmNew(0, A.bytes))
    host.refused(TPM_BAD_PARAMETER, r.LoadHashKey(), guest)  # Nothing is kept yet.
    host.ask(r.SaveHashKey(KEY), guest)
    assert host.ask(r.LoadHashKey(), guest).keyblob == KEY
    host.close()
    chip.close()


# Kernels


def test_only_kernels_of_the_list_open_vtpms(own: Host, caplog: pytest.LogCaptureFixture) -> None:
    host = own
    host.ask(r.SaveHashKey(KEY), host.guest(A, "any:label"))
    host.restart()
    host.new_group()
    good, wrong, none = host.guest(A), host.guest(A, "system_u:system_r:other_t"), host.guest(B, "")
    host.ask(r.LoadHashKey(), wrong)  # There is no list yet.
    wrong.close()
    host.ask(host.update(0, 1))
    host.refused(TPM_DISABLED, r.LoadHashKey(), wrong)
    hashed = kernel("*:system_r:other_t").hex()
    assert f"its kernel {hashed} (label 'system_u:system_r:other_t')" in caplog.text
    host.refused(TPM_DISABLED, r.SaveHashKey(KEY), none)
    assert host.ask(r.LoadHashKey(), good).keyblob == KEY
    good.close()
    host.ask(host.update(0, 2, kernels=(bytes(20),)))
    host.ask(r.SaveHashKey(KEY), none)
    host.ask(host.update(0, 3, kernels=()))
    host.refused(TPM_DISABLED, r.LoadHashKey(), good)


def test_a_list_can_leave_the_user_of_a_label_open(own: Host) -> None:
    """Xen's find_vtpm_khash: "*" in the place of the label's first part, if the label is not listed."""
    host = own
    host.new_group()
    host.ask(host.update(0, 1, kernels=(kernel("*:system_r:vtpm_t"), kernel("other"))))
    for number, label in enumerate(("system_u:system_r:vtpm_t", "user_u:system_r:vtpm_t", "other")):
        host.ask(r.SaveHashKey(KEY), host.guest(UUID(int=number), label))
    for label in ("system_u:system_r:other_t", ":system_r:vtpm_t", "vtpm_t", ""):
        host.refused(TPM_DISABLED, r.SaveHashKey(KEY), host.guest(B, label))


def test_get_boot_hash_is_the_hash_of_the_label(host: Host) -> None:
    guest = host.guest(A)
    host.ask(r.SaveHashKey(KEY), guest)
    assert host.ask(r.GetBootHash(), guest).digest == kernel("*:system_r:vtpm_t")
    assert host.ask(r.GetBootHash(), host.guest(B, "")).digest == bytes(20)
    host.new_group()
    host.ask(host.update(0, 1))
    guest.close()
    host.ask(r.LoadHashKey(), guest)
    assert host.ask(r.GetBootHash(), guest).digest == KERNEL == kernel(KERNEL_LABEL)


# NV areas and pass-through, over the protocol


def test_nv_areas_of_the_chip(host: Host) -> None:
    index, auth = (0x00011101 if host.family == "1.2" else 0x01800077), b"a" * 20
    host.ask(r.NVDefineSpace(index, 16, auth))
    host.ask(r.NVWriteValue(index, 4, auth, b"data"))
    assert host.ask(r.NVReadValue(index, 0, 16, auth)).data == b"\xff" * 4 + b"data" + b"\xff" * 8
    host.refused(TPM_AUTHFAIL, r.NVReadValue(index, 0, 16, b"b" * 20))
    for request, code in ((r.NVReadValue(index, 0, 17, auth), TPM_NOSPACE),
                          (r.NVReadValue(index, 0xFFFF, 1, auth), TPM_NOSPACE),
                          (r.NVReadValue(index, 0, 4075, auth), TPM_SIZE),
                          (r.NVWriteValue(index, 14, auth, b"data"), TPM_NOSPACE),
                          (r.NVWriteValue(index, 0xFFFFFFFF, auth, b"data"), TPM_NOSPACE),
                          (r.NVDefineSpace(index, 0x10000, auth), TPM_NOSPACE)):
        host.refused(code, request)
    host.ask(r.NVDefineSpace(index, 0, auth))
    host.refused(TPM_BADINDEX, r.NVReadValue(index, 0, 16, auth))


def test_the_managers_own_nv_is_not_to_be_touched(own: Host) -> None:
    auth = b"a" * 20
    for index in own.manager.reserved():
        for request in (r.NVDefineSpace(index, 0, auth), r.NVDefineSpace(index, 8, auth),
                        r.NVWriteValue(index, 0, auth, b"data"), r.NVReadValue(index, 0, 8, auth)):
            own.refused(0x3C, request)  # TPM_AREA_LOCKED


def test_guests_read_pcrs_and_the_administrator_extends_them(host: Host) -> None:
    guest, other = host.guest(A), host.guest(B)
    host.ask(r.SaveHashKey(KEY), guest)
    host.ask(r.SaveHashKey(KEY), other)
    read = bytes.fromhex("00c1 0000000e 00000015 00000009")
    extend = bytes.fromhex("00c1 00000022 00000014 00000009") + b"d" * 20
    for endpoint in guest, other, host.admin:
        assert endpoint.execute(read)[:10] == bytes.fromhex("00c4 0000001e 00000000")
    before = other.execute(read)
    assert other.execute(extend) == bytes.fromhex("00c4 0000000a 00000008")
    assert other.execute(read) == before
    assert guest.execute(extend)[6:10] == bytes(4)
    assert other.execute(read) != before


def test_a_guest_that_may_not_manage_changes_nothing_with_any_request(own: Host) -> None:
    host, guest = own, own.guest(B)
    host.ask(r.SaveHashKey(KEY), host.guest(A))
    host.ask(r.SaveHashKey(KEY), guest)
    before, chip = state(host.manager), len(host.chip.codes)
    for ordinal, kind in r.REQUESTS[host.family].items():
        if kind.MANAGEMENT:
            body = bytes(600)
            octets = struct.pack(">HII", 0x1C2, 10 + len(body), ordinal) + body
            assert guest.execute(octets) == bytes.fromhex("01c5 0000000a 00000001")
    assert state(host.manager) == before
    assert len(host.chip.codes) == chip


def test_secrets_of_groups_never_leave_the_manager_in_the_clear(own: Host) -> None:
    host = own
    host.new_group()
    answer = r.pack_request(registration(host, 0, host.saa))
    response = host.admin.execute(answer)
    assert host.manager.secret(0) not in response
    assert not any(host.manager.secret(0) in octets for octets in host.chip.traffic)
    group = host.manager.group(0)
    assert group.aik_auth
    assert not any(group.aik_auth in octets for octets in host.chip.traffic)
    assert sha256(group.aik_auth).digest() not in response
