"""A machine in a configuration that does not open its store: what it says, and how the SAA recovers it."""

from __future__ import annotations

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
        with socket.socket(socket.AF_UNIX) as chip:
            chip.connect(str(data))
            chip.sendall(EXTEND[tpm])
            assert chip.recv(4096)[6:10] == bytes(4)
        says = refused(place, "group", "list")
        assert "manager.db: the chip does not unseal the root key: its PCRs (0, 1, 2, 3, 4, 5, 6, 7)" in says
        assert "have the SAA of the first group recover it" in says
        assert run("run", "--state-dir", place, "--", "true", expect=125)[1] == says
        answer = [*CUSETPM, "saa", "answer", "--secret", str(files["secret"]), "--registration",
                  str(files["registration"])]
        wrong = f"{shlex.join(answer)} --platform 0-7:{'00' * (32 if tpm == '2.0' else 20)}"
        assert "none of the configurations" in refused(place, "group", "recover", "0", "--saa", wrong)
        assert (place / "manager.db").read_bytes() == before
        found = ask(place, "group", "recover", "0", "--saa", shlex.join(answer))
        assert (found["group"], found["state"], found["vtpms"]) == (0, "open", 1)
        assert run("run", "--front-end", "socket", "--state-dir", place, "--",
                   "tpm2_nvread", "-s", "4", "0x1500001")[0] == "kept"
        assert "group 0 is open" in refused(place, "group", "recover", "0", "--saa", "true")
