"""A machine in a configuration that does not open its store: what it says, and how the SAA recovers it."""

from __future__ import annotations

import json
import shlex
import socket
from pathlib import Path

import pytest

from hwtpm.crypto import pem
from tests.cusetpm.test_cli_manager import CUSETPM, ask, refused, run
from tests.cusetpm.test_outside_chip import swtpm
from tests.support.saa import Saa

EXTEND = {
    "1.2": bytes.fromhex("00c1 00000022 00000014 00000007") + b"m" * 20,
    "2.0": bytes.fromhex("8002 00000041 00000182 00000007 00000009 40000009 0000 01 0000 00000001 000b")
    + b"m" * 32,
}
"""Something is measured into PCR 7."""
KEEP = "tpm2_nvdefine -Q 0x1500001 -s 4 && printf kept | tpm2_nvwrite 0x1500001 -i -"


def measure(chip: Path, tpm: str) -> None:
    """The TPM at the socket *chip* has another value in PCR 7."""
    with socket.socket(socket.AF_UNIX) as way:
        way.connect(str(chip))
        way.sendall(EXTEND[tpm])
        assert way.recv(4096)[6:10] == bytes(4)


@pytest.mark.parametrize("tpm", ["2.0", "1.2"])
def test_the_saa_of_group_0_recovers_a_store_that_cannot_be_opened(tmp_path: Path, tpm: str) -> None:
    data, place, saa = tmp_path / "chip.sock", tmp_path / "s", Saa(tpm)
    (tmp_path / "saa.pub").write_bytes(pem.rsa_public(saa.modulus))
    files = {name: tmp_path / name for name in ("secret", "exchange", "signature", "registration")}
    with swtpm(tmp_path / "chip", tpm, f"type=unixio,path={data}", f"type=unixio,path={data}.ctrl"):
        run("manager", "--state-dir", place, "init", "--chip", tpm, "--driver", f"swtpm:{data}")
        run("saa", "exchange", "--secret", files["secret"], files["exchange"])
        files["signature"].write_bytes(saa.sign(files["exchange"].read_bytes()))
        made = ask(place, "group", "new", "--saa", tmp_path / "saa.pub", "--exchange", files["exchange"],
                   "--signature", files["signature"], "--registration", files["registration"])
        assert (made["group"], made["registered"]) == (0, True)
        run("run", "--front-end", "socket", "--state-dir", place, "--", "sh", "-c", KEEP)
        before = (place / "manager.db").read_bytes()
        was = ask(place, "platform")["digest"]
        measure(data, tpm)
        says = refused(place, "group", "list")
        assert "manager.db: the chip does not unseal the root key: its PCRs (0, 1, 2, 3, 4, 5, 6, 7)" in says
        assert "have the SAA of the first group recover it" in says
        assert says.endswith("(cusetpm manager group recover 0)\n")
        assert run("run", "--state-dir", place, "--", "true", expect=125)[1] == says
        assert refused(place, "group", "recover", "1", "--saa", "true") == says
        answer = [*CUSETPM, "saa", "answer", "--secret", str(files["secret"]), "--registration",
                  str(files["registration"])]
        here = ask(place, "platform")
        wrong, right = (f"{shlex.join(answer)} --platform 0-7:{digest}" for digest in (was, here["digest"]))
        assert "none of the configurations" in refused(place, "group", "recover", "0", "--saa", wrong)
        assert (place / "manager.db").read_bytes() == before
        found = ask(place, "group", "recover", "0", "--saa", right)
        assert (found["group"], found["state"], found["vtpms"]) == (0, "open", 1)
        assert run("run", "--front-end", "socket", "--state-dir", place, "--",
                   "tpm2_nvread", "-s", "4", "0x1500001")[0] == "kept"
        assert "group 0 is open" in refused(place, "group", "recover", "0", "--saa", "true")


@pytest.mark.parametrize("tpm", ["2.0", "1.2"])
def test_no_other_key_and_no_other_chip_opens_the_store(tmp_path: Path, tpm: str) -> None:
    data, other, place = tmp_path / "chip.sock", tmp_path / "other.sock", tmp_path / "s"
    with swtpm(tmp_path / "chip", tpm, f"type=unixio,path={data}", f"type=unixio,path={data}.ctrl"):
        run("manager", "--state-dir", place, "init", "--chip", tpm, "--driver", f"swtpm:{data}")
        kept = (place / "manager.db").read_bytes()
        measure(data, tpm)
        wrong = f"printf {'02' * 288}"  # a key for nothing
        assert "this is not the key of the first group" in refused(
            place, "group", "recover", "0", "--saa", wrong)
    with swtpm(tmp_path / "other", tpm, f"type=unixio,path={other}", f"type=unixio,path={other}.ctrl"):
        settings = place / "manager.toml"
        settings.write_text(settings.read_text().replace(str(data), str(other)))
        for verb in ("show",), ("group", "recover", "0", "--saa", wrong):
            assert refused(place, *verb) == (
                f"cusetpm: {place}/manager.db: the root key is sealed to another chip, or this chip was "
                f"cleared; put the chip's NV back that belongs to this store\n")
    assert (place / "manager.db").read_bytes() == kept


@pytest.mark.parametrize("tpm", ["2.0", "1.2"])
def test_our_own_chip_is_reset_at_each_start_so_a_group_is_registered_by_who_makes_it(
        tmp_path: Path, tpm: str) -> None:
    saa = Saa(tpm)
    (tmp_path / "saa.pub").write_bytes(pem.rsa_public(saa.modulus))
    files = {name: tmp_path / name for name in ("secret", "exchange", "signature", "registration")}
    run("saa", "exchange", "--secret", files["secret"], files["exchange"])
    files["signature"].write_bytes(saa.sign(files["exchange"].read_bytes()))
    new = "group", "new", "--saa", tmp_path / "saa.pub"
    half = "--exchange", files["exchange"], "--signature", files["signature"]
    run("manager", "--state-dir", tmp_path / "s", "init", "--chip", tpm)
    for index, remedy in enumerate(["make the store anew", "make it anew"]):
        assert ask(tmp_path / "s", *new)["group"] == index
        says = refused(tmp_path / "s", "group", "register", str(index), *half, "--evidence", tmp_path / "e")
        assert f"group {index} was created before the chip was reset" in says
        assert f"; {remedy}, and register before a reset" in says
    made = ask(tmp_path / "s", *new, *half, "--registration", files["registration"])
    assert (made["group"], made["registered"]) == (2, True)
    # Group 0 is registered by a process that has made the store.
    manager = shlex.join([*CUSETPM, "manager", "--state-dir", str(tmp_path / "t"), "--json"])
    commands = [shlex.join([str(word) for word in words]) for words in (
        new, ("group", "register", "0", *half, "--evidence", tmp_path / "e"), ("group", "show", "0"))]
    script = "\n".join(f"{manager} {command}" for command in commands)
    told = run("run", "--chip", tpm, "--front-end", "socket", "--state-dir", tmp_path / "t", "--",
               "sh", "-ec", script)[0]
    assert json.loads(told[told.rindex("{"):])["registered"]
