"""The files of Linux' securityfs, made of recorded lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cusetpm.measure import BadLog
from cusetpm.measure.securityfs import files

VECTORS = Path(__file__).parents[1] / "vectors"
LIST = json.loads((VECTORS / "ima_linux.json").read_text())["ima-ng"]
LOG = (VECTORS / "eventlog" / "ovmf.bin").read_bytes()
BINARY, ASCII = bytes.fromhex(LIST["binary"]), LIST["ascii"].encode()


@pytest.mark.parametrize("recorded", [BINARY, ASCII])
def test_a_list_is_shown_in_both_formats_as_the_kernel_shows_it(recorded: bytes) -> None:
    assert files(ima_list=recorded) == {
        "binary_runtime_measurements": BINARY, "ascii_runtime_measurements": ASCII}


def test_an_event_log_is_shown_without_unused_memory() -> None:
    assert files(event_log=LOG + bytes(1000)) == {"binary_bios_measurements": LOG}


def test_what_was_not_recorded_is_not_there() -> None:
    assert files() == {}


@pytest.mark.parametrize("recorded", [
    {"event_log": b"garbage"}, {"ima_list": b"garbage"}, {"ima_list": ASCII.replace(b"ima-ng", b"mine")}])
def test_what_cannot_be_shown_is_a_clear_error(recorded: dict[str, bytes]) -> None:
    with pytest.raises(BadLog):
        files(**recorded)
