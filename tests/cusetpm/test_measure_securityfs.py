"""The files of Linux' securityfs, made of recorded lists."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cusetpm.measure import BadLog, ima
from cusetpm.measure.securityfs import binary_bios_measurements, runtime_measurements
from hwtpm.crypto import ids

VECTORS = Path(__file__).parents[1] / "vectors"
LIST = json.loads((VECTORS / "ima_linux.json").read_text())["ima-ng"]
LOG = (VECTORS / "eventlog" / "ovmf.bin").read_bytes()
BINARY, ASCII = bytes.fromhex(LIST["binary"]), LIST["ascii"].encode()


@pytest.mark.parametrize("recorded", [BINARY, ASCII])
def test_a_list_is_shown_in_both_formats_as_the_kernel_shows_it(recorded: bytes) -> None:
    assert runtime_measurements(recorded, form="binary", alg=ids.SHA1) == BINARY
    assert runtime_measurements(recorded, form="ascii", alg=ids.SHA1) == ASCII


@pytest.mark.parametrize("recorded", [BINARY, ASCII])
def test_a_bank_s_list_has_template_digests_by_its_hash(recorded: bytes) -> None:
    for form in ("binary", "ascii"):
        found = ima.parse(runtime_measurements(recorded, form=form, alg=ids.SHA256))
        assert (found.alg, found.format) == (ids.SHA256, form)
        for entry, known in zip(found.entries, ima.parse(BINARY).entries, strict=True):
            assert entry.fields == known.fields
            covered = known.hashed("little")
            assert covered is not None
            assert entry.digest == (bytes(32) if known.violation else hashlib.sha256(covered).digest())


def test_a_violation_has_zeros_in_every_bank_s_list() -> None:
    entry = ima.parse(BINARY).entries[0]._replace(digest=bytes(20))
    (found,) = ima.parse(runtime_measurements(ima.encode(entry), form="binary", alg=ids.SHA512)).entries
    assert found.violation
    assert len(found.digest) == 64


def test_an_event_log_is_shown_without_unused_memory() -> None:
    assert binary_bios_measurements(LOG + bytes(1000)) == LOG


def test_what_cannot_be_shown_is_a_clear_error() -> None:
    with pytest.raises(BadLog):
        binary_bios_measurements(b"garbage")
    with pytest.raises(BadLog):
        runtime_measurements(b"garbage", form="ascii", alg=ids.SHA1)
    unknown = ASCII.replace(b"ima-ng", b"mine")
    assert runtime_measurements(unknown, form="ascii", alg=ids.SHA1) == unknown
    for form, alg in (("binary", ids.SHA1), ("ascii", ids.SHA256)):
        with pytest.raises(BadLog):
            runtime_measurements(unknown, form=form, alg=alg)
