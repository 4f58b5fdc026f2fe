"""The manager's protocol: any octets get one well-formed response, and only SAVEHASHKEY changes anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_ORDINAL,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BADTAG,
    TPM_DISABLED_CMD,
    TPM_FAIL,
    TPM_SUCCESS,
)
from manager.model import Group, Vtpm
from manager.protocol import Endpoint, load_hash_key, open_response, save_hash_key
from manager.service import Service
from manager.vtpms import Connection

US = UUID("00000000-0000-4000-8000-000000000001")
OTHER = UUID("00000000-0000-4000-8000-000000000002")


class Kept:
    """A manager that keeps in memory; `broken` is raised instead of working."""

    def __init__(self) -> None:
        self.kept: dict[UUID, bytes] = {}
        self.broken: Exception | None = None

    def find(self, uuid: UUID) -> int | None:
        return 0 if uuid in self.kept else None

    def group(self, number: int) -> Group:
        return Group(b"g" * 16)

    def vtpm(self, uuid: UUID) -> Vtpm:
        return Vtpm()

    @contextmanager
    def exclusive(self) -> Iterator[bytes]:
        yield b""

    def save_hash_key(self, uuid: UUID, hash_key: bytes) -> None:
        if self.broken:
            raise self.broken
        self.kept[uuid] = hash_key

    def load_hash_key(self, uuid: UUID) -> bytes | None:
        if self.broken:
            raise self.broken
        return self.kept.get(uuid)


class NoChip:
    """A chip that nothing reaches."""

    def __init__(self, family: str) -> None:
        self.family = family

    def transmit(self, command: bytes) -> bytes:
        raise AssertionError(command.hex())


def endpoint(kept: Kept, uuid: UUID | None = US) -> Endpoint:
    """Return what a vTPM sees, or without a UUID an administrator."""
    chip = NoChip("1.2")
    service = Service(kept, chip, lambda: chip, os.urandom)  # type: ignore[arg-type, return-value]
    return Endpoint(service, Connection(uuid, "vTPM of the test" if uuid else "", administrator=not uuid))


def message(tag: int, ordinal: int, payload: bytes = b"", size: int | None = None) -> bytes:
    size = 10 + len(payload) if size is None else size
    return tag.to_bytes(2, "big") + size.to_bytes(4, "big") + ordinal.to_bytes(4, "big") + payload


def code(response: bytes, tag: int = 0x01C4) -> int:
    assert response[:2] == tag.to_bytes(2, "big")
    assert int.from_bytes(response[2:6], "big") == len(response)
    return int.from_bytes(response[6:10], "big")


@pytest.mark.parametrize("size", range(52, 65))
def test_what_was_saved_is_loaded_exactly(size: int) -> None:
    asked = endpoint(Kept())
    hash_key = bytes(range(size - 1)) + b"\0"  # Zeros at the end belong to it.
    save = save_hash_key(hash_key)
    assert save == message(0x01C1, 1, hash_key)
    assert open_response(asked.execute(save), save) == b""
    load = load_hash_key()
    assert load == bytes.fromhex("01c1 0000000a 00000002")
    assert open_response(asked.execute(load), load) == hash_key


def test_each_endpoint_speaks_for_its_own_vtpm() -> None:
    kept = Kept()
    endpoint(kept).execute(save_hash_key(b"u" * 64))
    assert code(endpoint(kept, OTHER).execute(load_hash_key())) == TPM_BAD_PARAMETER
    assert kept.kept == {US: b"u" * 64}


def test_nothing_kept_yet_is_told_like_xen_and_opened_as_empty() -> None:
    response = endpoint(Kept()).execute(load_hash_key())
    assert code(response) == TPM_BAD_PARAMETER
    assert open_response(response, load_hash_key()) == b""


@pytest.mark.parametrize(("request_", "tag", "expected"), [
    (b"", 0x01C4, TPM_BAD_PARAMETER),
    (load_hash_key()[:9], 0x01C4, TPM_BAD_PARAMETER),
    (message(0x01C1, 2, size=9), 0x01C4, TPM_BAD_PARAM_SIZE),
    (message(0x01C1, 2, size=11), 0x01C4, TPM_BAD_PARAM_SIZE),
    (message(0x01C1, 2, b"more"), 0x01C4, TPM_BAD_PARAM_SIZE),
    (message(0x01C1, 1), 0x01C4, TPM_BAD_PARAMETER),
    (message(0x01C1, 1, bytes(51)), 0x01C4, TPM_BAD_PARAMETER),
    (message(0x01C1, 1, bytes(65)), 0x01C4, TPM_BAD_PARAMETER),
    (message(0x01C1, 0), 0x01C4, TPM_BAD_ORDINAL),
    (message(0x01C1, 5), 0x01C4, TPM_BAD_ORDINAL),
    (message(0x01C1, 0x02000101), 0x01C4, TPM_BAD_ORDINAL),
    (message(0x01C2, 0x02000101), 0x01C5, TPM_AUTHFAIL),
    (message(0x01C2, 1, bytes(64)), 0x01C5, TPM_AUTHFAIL),
    (message(0x01C4, 2), 0x01C4, TPM_BADTAG),
    (message(0x00C1, 1, bytes(64)), 0x00C4, TPM_DISABLED_CMD),
    (message(0x00C1, 0x14, bytes(24)), 0x00C4, TPM_DISABLED_CMD),
    (message(0x8001, 0x17B, bytes(2)), 0x01C4, TPM_BADTAG),
])
def test_a_bad_request_gets_its_return_code(
        request_: bytes, tag: int, expected: int, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    caplog.set_level("INFO")
    assert code(endpoint(kept).execute(request_), tag) == expected
    assert kept.kept == {}
    assert "vTPM of the test: " in caplog.text


def test_a_management_request_that_there_is_not_is_bad_ordinal() -> None:
    kept = Kept()
    administrator = endpoint(kept, None)
    for ordinal in 1, 2, 5, 0x02000100, 0x0200010B, 0x02000206, 0x02000307:
        assert code(administrator.execute(message(0x01C2, ordinal)), 0x01C5) == TPM_BAD_ORDINAL
    assert code(administrator.execute(message(0x01C2, 0x02000101, b"x"))) == TPM_BAD_PARAMETER
    for ordinal in 1, 2, 3, 4:  # These are for vTPMs.
        body = {1: bytes(64), 4: bytes(29)}.get(ordinal, b"")
        assert code(administrator.execute(message(0x01C1, ordinal, body))) == TPM_BAD_PARAMETER


@given(st.binary(max_size=100) | st.binary(max_size=70).map(lambda b: message(0x01C1, 1, b))
       | st.builds(message, st.integers(0, 0xFFFF) | st.sampled_from([0x1C1, 0x1C2, 0xC1, 0x8001]),
                   st.integers(0, 0xFFFFFFFF) | st.integers(0, 4) | st.integers(0x02000101, 0x02000306),
                   st.binary(max_size=70)))
def test_any_octets_get_one_response_and_only_a_save_changes_anything(request_: bytes) -> None:
    kept = Kept()
    kept.kept[OTHER] = b"o" * 64
    response = endpoint(kept).execute(request_)
    tag = int.from_bytes(response[:2], "big")
    assert tag in (0x01C4, 0x01C5, 0x00C4)
    saved = code(response, tag) == TPM_SUCCESS and request_[6:10] == bytes((0, 0, 0, 1))
    assert kept.kept == {OTHER: b"o" * 64} | ({US: request_[10:]} if saved else {})
    assert not saved or 52 <= len(request_) - 10 <= 64


@pytest.mark.parametrize("error", [OSError(28, "full"), StateError("s"), ProtocolError("p"), TpmError(0x923)])
def test_a_failure_is_a_return_code_and_the_manager_goes_on(error: Exception) -> None:
    kept = Kept()
    asked = endpoint(kept)
    kept.broken = error
    assert code(asked.execute(save_hash_key(bytes(64)))) == TPM_FAIL
    assert code(asked.execute(load_hash_key())) == TPM_FAIL
    kept.broken = None
    assert code(asked.execute(save_hash_key(bytes(64)))) == TPM_SUCCESS


@pytest.mark.parametrize(("response", "says"), [
    (b"", "0 octets"),
    (bytes.fromhex("01c4 0000000b 00000000"), "says 11"),
    (bytes.fromhex("8001 0000000a 00000142"), "ring .* 0x142"),
    (bytes.fromhex("01c5 0000000a 00000000"), "tag 0x01c5"),
    (bytes.fromhex("01c4 0000000a 00000009"), "return code 9"),
    (message(0x01C4, TPM_BAD_PARAMETER, b"more"), "return code 3"),
    (message(0x01C4, TPM_SUCCESS, bytes(51)), "51 octets of payload"),
    (message(0x01C4, TPM_SUCCESS, bytes(65)), "65 octets of payload"),
    (message(0x01C4, TPM_SUCCESS), "0 octets of payload"),
])
def test_a_bad_response_is_a_clear_error(response: bytes, says: str) -> None:
    with pytest.raises(ProtocolError, match=says) as caught:
        open_response(response, load_hash_key())
    assert "\n" not in str(caught.value)


def test_a_refused_save_is_never_taken_for_done() -> None:
    save = save_hash_key(bytes(64))
    for response in (message(0x01C4, TPM_BAD_PARAMETER), message(0x01C4, TPM_SUCCESS, bytes(64))):
        with pytest.raises(ProtocolError):
            open_response(response, save)


@given(st.binary(max_size=80)
       | st.builds(message, st.just(0x01C4), st.integers(0, 40), st.binary(max_size=70)))
def test_any_response_is_opened_or_refused(response: bytes) -> None:
    for request_ in (load_hash_key(), save_hash_key(bytes(52))):
        try:
            payload = open_response(response, request_)
        except ProtocolError:
            continue
        assert payload in (b"", response[10:])


@pytest.mark.parametrize("size", [0, 51, 65])
def test_a_hash_key_of_another_size_is_not_sent(size: int) -> None:
    with pytest.raises(ProtocolError, match=f"{size} octets"):
        save_hash_key(bytes(size))


def test_only_a_save_takes_long() -> None:
    asked = endpoint(Kept())
    asked.cancel()
    assert asked.takes_long(save_hash_key(bytes(64)))
    assert not asked.takes_long(load_hash_key())
    assert not asked.takes_long(b"")
