"""DIR/manager.toml: what can be set, and what a wrong value is answered with."""

from __future__ import annotations

import stat
from hashlib import sha1
from pathlib import Path

import pytest

from cusetpm.settings import Settings, auth, pcr_bits, pcr_spec, read, write
from hwtpm.errors import StateError


def test_a_directory_without_the_file_has_the_defaults(tmp_path: Path) -> None:
    assert read(tmp_path) == Settings()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    wanted = Settings(chip="1.2", driver='swtpm:/run/a "b"\\\x7f', locality=3, srk_handle=0x81000001,
                      owner_auth="hash:" + "0f" * 20, pcrs="0-7,12", auto_create=False, quote_pcrs="xen")
    write(tmp_path, wanted)
    assert read(tmp_path) == wanted
    assert stat.S_IMODE((tmp_path / "manager.toml").stat().st_mode) == 0o600


def test_only_what_differs_from_the_defaults_is_in_the_file(tmp_path: Path) -> None:
    write(tmp_path, Settings(locality=1))
    assert (tmp_path / "manager.toml").read_text() == "locality = 1\n"


def test_a_password_is_written_as_its_hash(tmp_path: Path) -> None:
    write(tmp_path, Settings(owner_auth="text:secret"))
    assert "secret" not in (tmp_path / "manager.toml").read_text()
    assert auth(read(tmp_path).owner_auth) == sha1(b"secret").digest()


def test_secrets_are_given_as_xen_has_them() -> None:
    assert auth("well-known") == bytes(20)
    assert auth("hash:" + "ab" * 20) == b"\xab" * 20
    assert auth("text:") == sha1(b"").digest()


@pytest.mark.parametrize(("spec", "bits"), [
    ("0-7", "ff0000"), ("all", "ffffff"), ("none", "000000"), ("5,12-16", "20f001"), ("23", "000080")])
def test_pcrs_are_a_list_of_numbers_and_ranges(spec: str, bits: str) -> None:
    assert pcr_bits(spec).hex() == bits
    assert pcr_bits(pcr_spec(pcr_bits(spec))).hex() == bits


def test_the_shortest_list_is_shown() -> None:
    assert pcr_spec(bytes.fromhex("ff1001")) == "0-7,12,16"
    assert pcr_spec(bytes(3)) == "none"


@pytest.mark.parametrize("spec", ["", "24", "7-0", "0-", "-7", "a", "0--7", "1,,2", "0-24", "²"])
def test_what_is_no_list_of_pcrs_is_refused(spec: str) -> None:
    with pytest.raises(StateError, match="PCRs have to be a list such as 0-7,12"):
        pcr_bits(spec)


@pytest.mark.parametrize(("text", "told"), [
    ("chip = 2.0", "chip has to be text, not 2.0"),
    ('chip = "3.0"', "chip has to be one of 2.0, 1.2, not '3.0'"),
    ("locality = 5", "locality has to be 0 to 4, not 5"),
    ("locality = true", "locality has to be a number, not True"),
    ('driver = "tis"',
     "driver has to be model, device:PATH, swtpm:PATH, swtpm:HOST:PORT or tis:PATH, not 'tis'"),
    ('driver = "tis:"', "driver has to be"),
    ('driver = "device:"', "driver has to be"),
    ('driver = "device:/dev/tpm0"', "locality has to be 0 with a device"),
    ("srk_handle = 1", "srk_handle has to be a persistent handle"),
    ('owner_auth = "hash:00"', "a secret has to be well-known"),
    ('srk_auth = "secret"', "a secret has to be well-known"),
    ('pcrs = "24"', "PCRs have to be a list"),
    ("color = 1", "'color' is not a setting"),
    ("= 1", "Invalid"),
    ("\xff", "codec"),
])
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "manager.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(StateError) as refusal:
        read(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path}/manager.toml: ")
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
