"""Which of a vTPM's two records is the truth: after a loss of power, a copy that was put back, or damage."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest

from cusetpm.accepting import accept
from cusetpm.daemon import Device, System
from cusetpm.records import OldCopy, Record, accepted, seal, truth
from hwtpm.client import Client, Password
from hwtpm.crypto import aead
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.slots import Slots
from hwtpm.tpm2.requests.hierarchy import Clear, HierarchyChangeAuth
from hwtpm.tpm2.types.constants import TPM_RC_NV_UNAVAILABLE
from hwtpm.tpm2.types.handles import TPM_RH_OWNER, TPM_RH_PLATFORM

A, B = UUID(int=0xA), UUID(int=0xB)
KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    with closing(Slots(tmp_path / "state")) as made:
        yield made


def put(slots: Slots, slot: int, number: int, key: bytes = KEY, uuid: UUID = A) -> Record:
    """*slot* has a record with that number, whose snapshot tells it."""
    record, octets = seal(b"state %d" % number, slot, number, key, uuid)
    slots.write(slot, octets)
    return record


def test_a_new_vtpm_has_no_record_and_one_that_was_cut_short_is_new(slots: Slots) -> None:
    assert truth(slots, b"", A) is None
    put(slots, 0, 1)
    assert truth(slots, b"", A) is None
    put(slots, 1, 2)
    with pytest.raises(StateError, match="the manager has no key for vTPM"):
        truth(slots, b"", A)


@pytest.mark.parametrize("slot", [0, 1])
def test_the_record_that_the_manager_knows_is_the_truth(slots: Slots, slot: int) -> None:
    put(slots, 1 - slot, 6)
    record = put(slots, slot, 7)
    assert truth(slots, record.kept, A) == record
    assert (record.number, record.key, record.snapshot) == (7, KEY, b"state 7")
    assert KEY.hex() not in repr(record)


def test_a_record_that_the_manager_was_told_of_before_power_went_is_the_truth(slots: Slots) -> None:
    """The manager's last saves under a key that it has are not on the disk at once."""
    known = put(slots, 0, 5).kept
    put(slots, 1, 6)
    newest = put(slots, 0, 7)
    assert truth(slots, known, A) == newest
    slots.clear(0)
    found = truth(slots, known, A)
    assert found is not None
    assert found.number == 6


def test_a_record_that_was_being_written_is_not_the_truth(slots: Slots) -> None:
    known = put(slots, 0, 5)
    _, octets = seal(b"state 6", 1, 6, KEY, A)
    for size in range(0, len(octets), 5):
        slots.write(1, octets[:size] + bytes(len(octets) - size))
        assert truth(slots, known.kept, A) == known


def test_numbers_cannot_be_changed(slots: Slots) -> None:
    known = put(slots, 0, 5)
    _, octets = seal(b"state 4", 1, 4, KEY, A)
    slots.write(1, octets[:8] + (9).to_bytes(8, "big") + octets[16:])
    assert truth(slots, known.kept, A) == known


@pytest.mark.parametrize(("key", "uuid"), [(OTHER, A), (KEY, B)])
def test_a_record_under_another_key_or_of_another_vtpm_is_none(slots: Slots, key: bytes, uuid: UUID) -> None:
    known = put(slots, 0, 5)
    put(slots, 1, 6, key, uuid)
    assert truth(slots, known.kept, A) == known
    put(slots, 0, 7, key, uuid)
    with pytest.raises(StateError, match="neither file is the state that the manager knows") as refusal:
        truth(slots, known.kept, A, accept=True)
    assert not isinstance(refusal.value, OldCopy)


def test_an_old_copy_is_refused_and_is_the_next_record_once_it_is_accepted(slots: Slots) -> None:
    known = seal(b"lost", 0, 9, KEY, A)[0].kept
    put(slots, 0, 4)
    put(slots, 1, 5)
    with pytest.raises(OldCopy, match=r"is save 5, the manager knows save 9 of vTPM"):
        truth(slots, known, A)
    found = accepted(slots, known, A)
    assert found is not None
    record, octets = found
    assert (record.slot, record.number, record.snapshot) == (0, 10, b"state 5")
    slots.write(record.slot, octets)
    assert truth(slots, record.kept, A) == record
    assert accepted(slots, record.kept, A) is None


def test_another_record_with_the_number_of_the_truth_is_an_old_copy(slots: Slots) -> None:
    known = seal(b"lost", 0, 9, KEY, A)[0].kept
    put(slots, 0, 9)
    with pytest.raises(OldCopy):
        truth(slots, known, A)


def test_what_is_newer_than_the_manager_knows_need_not_be_accepted(slots: Slots) -> None:
    known = put(slots, 0, 5).kept
    put(slots, 1, 6)
    assert accepted(slots, known, A) is None


@pytest.mark.parametrize("size", [0, 27, 52])
def test_what_the_manager_keeps_for_another_program_is_named(slots: Slots, size: int) -> None:
    put(slots, 0, 1)
    put(slots, 1, 2)
    if size:
        with pytest.raises(StateError, match="is another program's"):
            truth(slots, bytes(size), A)


def test_a_record_from_before_there_were_numbers(slots: Slots) -> None:
    """nonce, ciphertext and tag, with the UUID as associated data; kept were SHA-256 and a key of its own."""
    octets = aead.seal(OTHER, bytes(12), b"old state", A.bytes)
    known = sha256(octets).digest() + OTHER
    slots.write(1, octets)
    found = truth(slots, known, A)
    assert found == Record(1, known, b"old state")
    assert (found.number, found.key) == (0, None)
    slots.write(1, octets[:-1] + bytes([octets[-1] ^ 1]))
    with pytest.raises(StateError, match="neither file is the state"):
        truth(slots, known, A)


# A vTPM.


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with closing(System(tmp_path / "s")) as made:
        yield made


def guest(system: System) -> Device:
    device = system.add_guest("one")
    device.start_up("clear")
    return device


def change(device: Device, old: int, new: int) -> None:
    """Change the owner's authorization value from *old* octets to *new*."""
    Client(device.execute, os.urandom).run(
        HierarchyChangeAuth(TPM_RH_OWNER, b"x" * new), Password(b"x" * old))


def kept(system: System) -> bytes:
    uuid, _ = system.state.guest("one")
    found = system.manager.load_hash_key(uuid)
    assert found is not None
    return found


def put_aside(system: System, place: Path) -> Path:
    """Return copies of the vTPM's files, and put nothing back yet."""
    return shutil.copytree(system.state.path / "guests" / "one", place)


def put_back(system: System, copy: Path) -> None:
    for slot in copy.glob("state.?"):
        shutil.copyfile(slot, system.state.path / "guests" / "one" / slot.name)


def go_back(system: System, place: Path) -> None:
    """The vTPM's state is the old one in which the owner's authorization value has one octet."""
    device = guest(system)
    change(device, 0, 1)
    old = put_aside(system, place)
    change(device, 1, 2)
    change(device, 2, 3)
    with pytest.raises(StateError, match="vTPM one is running"):
        accept(system, "one")
    system.close()
    put_back(system, old)


def test_saves_keep_the_key_and_count(system: System) -> None:
    device = guest(system)
    change(device, 0, 1)
    before = kept(system)
    change(device, 1, 2)
    after = kept(system)
    assert after[-32:] == before[-32:]
    assert int.from_bytes(after[:8], "big") == int.from_bytes(before[:8], "big") + 1


def test_what_the_manager_has_lost_with_power_is_told_once_more(system: System) -> None:
    device = guest(system)
    change(device, 0, 1)
    uuid, before = device.guest.uuid, kept(system)
    change(device, 1, 2)
    system.close()
    with closing(System(system.state.path)) as again:
        newest = kept(again)
        again.release()
        again.manager.save_hash_key(uuid, before)  # as if those after it had been lost
    with closing(System(system.state.path)) as again:
        device = again.add_guest("one")
        assert kept(again) == before  # A start that is not accepted yet changes nothing.
        device.accept()
        assert int.from_bytes(kept(again)[:8], "big") >= int.from_bytes(newest[:8], "big")
        device.start_up("clear")
        change(device, 2, 3)


def test_a_save_that_the_manager_refused_is_undone_for_good(
        system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record has the highest number, and must not pass for the truth after the next start."""
    device = guest(system)
    change(device, 0, 1)
    real = device.inner.front.execute

    def fail(command: bytes, *rest: object) -> bytes:
        if len(command) > 40:  # what is to be kept is longer than any other request
            raise ProtocolError("the manager does not answer")
        return real(command)

    with monkeypatch.context() as patch:
        patch.setattr(device.inner.front, "execute", fail)
        with pytest.raises(TpmError) as refusal:
            change(device, 1, 2)
        assert refusal.value.rc == TPM_RC_NV_UNAVAILABLE
    system.close()
    with closing(System(system.state.path)) as again:
        change(guest(again), 1, 3)


@pytest.mark.parametrize("lost", [False, True])
def test_a_save_that_the_manager_has_made_although_it_failed(
        system: System, monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    """The manager says which record is the truth; until it does nothing is executed."""
    device = guest(system)
    change(device, 0, 1)
    real = device.inner.front.execute

    def answer_is_lost(command: bytes, *rest: object) -> bytes:
        response = real(command)
        if lost or len(command) > 40:
            raise ProtocolError("the manager does not answer")
        return response

    with monkeypatch.context() as patch:
        patch.setattr(device.inner.front, "execute", answer_is_lost)
        with pytest.raises(TpmError) as refusal:
            change(device, 1, 2)
        assert refusal.value.rc == TPM_RC_NV_UNAVAILABLE
    change(device, 2, 3)
    system.close()
    with closing(System(system.state.path)) as again:
        change(guest(again), 3, 4)


def test_an_old_state_is_refused_and_accepted_by_an_act_that_is_logged(
        tmp_path: Path, system: System, caplog: pytest.LogCaptureFixture) -> None:
    go_back(system, tmp_path / "old")
    with closing(System(system.state.path)) as again:
        again.release()
        with pytest.raises(OldCopy):
            again.add_guest("one")
        told = accept(again, "one")
        assert told in caplog.text
        assert "accepted by the administrator" in caplog.text
        change(guest(again), 1, 4)
    with closing(System(system.state.path)) as again:
        again.release()
        with pytest.raises(StateError, match="there is nothing to accept"):
            accept(again, "one")
        change(guest(again), 4, 5)


def test_an_accepted_state_that_could_not_be_written_is_accepted_once_more(
        tmp_path: Path, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    go_back(system, tmp_path / "old")
    real = Slots.write

    def fail(self: Slots, slot: int, record: bytes) -> None:
        if self.path.name == "state":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        real(self, slot, record)

    with closing(System(system.state.path)) as again:
        again.release()
        with monkeypatch.context() as patch:
            patch.setattr(Slots, "write", fail)
            with pytest.raises(OSError, match="No space left"):
                accept(again, "one")
        with pytest.raises(OldCopy):
            again.add_guest("one")
        accept(again, "one")
        change(guest(again), 1, 4)


def test_a_cleared_tpm_has_another_key_and_its_old_states_are_gone(tmp_path: Path, system: System) -> None:
    device = guest(system)
    change(device, 0, 1)
    old, before = put_aside(system, tmp_path / "old"), kept(system)
    Client(device.execute, os.urandom).run(Clear(TPM_RH_PLATFORM), Password())
    after = kept(system)
    assert after[-32:] != before[-32:]
    change(device, 0, 2)
    assert kept(system)[-32:] == after[-32:]
    system.close()
    put_back(system, old)
    with closing(System(system.state.path)) as again:
        again.release()
        for act in (lambda: again.add_guest("one"), lambda: accept(again, "one")):
            with pytest.raises(StateError, match="nor one that its key opens"):
                act()
