"""What a guest's TPM has of the manager below it: deep quotes, requests passed on, its first PCRs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from hashlib import sha1, sha256
from pathlib import Path

import pytest

from cusetpm.administration import administrator
from cusetpm.daemon import Device, System
from cusetpm.settings import Settings, write
from hwtpm.client import Client, Password
from hwtpm.client12 import Client as Client12
from hwtpm.crypto import ids, pem
from hwtpm.errors import StateError, TpmError
from hwtpm.family import response_code
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.parent import DeepQuote, ParentSignEK
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_RC_DISABLED
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT
from hwtpm.tpm2.types.parent import endorsement_digest
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from hwtpm.tpm12.requests.endorsement import ReadPubek
from hwtpm.tpm12.requests.integrity import PcrRead
from hwtpm.tpm12.requests.parent import DeepQuote as DeepQuote12
from hwtpm.tpm12.requests.parent import ParentSignEK as ParentSignEK12
from hwtpm.tpm12.types.codes import TPM_KEYNOTFOUND
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
from hwtpm.wire import decode
from manager import requests
from manager.quote import Meaning
from manager.seldom import BURST
from manager.verify import Known, verify_quote
from tests.support.templates import AES128, STORAGE, ecc
from tests.support.tpm2 import refused
from tests.support.tpm12 import OWNER_AUTH, once, primes, take_ownership

MODULUS = (primes(20)[0] * primes(20)[1]).to_bytes(256, "big")
NONCE = b"n" * 20
CHIP_PCRS = b"\xff\0\xf0"
LABEL = "web"


class Running:
    """A system whose chip is of one family, and whose guest is of another."""

    def __init__(self, path: Path, chip: str, tpm: str) -> None:
        self.family, self.path = chip, path
        self.system = System(path, chip=chip)
        self.device: Device = self.system.add_guest("tpm0", tpm=tpm, label=LABEL)
        self.device.start_up("clear")
        self.client = Client(self.device.execute, os.urandom)
        self.client12 = Client12(self.device.execute, os.urandom)
        self.device.accept()
        self.client_of_manager = administrator(self.system)
        self.aik = b""

    def provision(self) -> None:
        """Group 0, to which the guest belongs, has an identity key."""
        request = requests.GroupNew(bytes(20), MODULUS)
        response = self.client_of_manager.execute(requests.pack_request(request))
        self.aik = requests.read_response(request, response).aik_pub_key

    def verified(self, data: bytes, blob: bytes, flags: int = 0) -> None:
        """*blob* is a quote of the chip over *data* and CHIP_PCRS."""
        verify_quote(self.family, self.aik, requests.GetQuote(data, CHIP_PCRS, flags),
                     decode(requests.GetQuoteResponse, blob), Known(saa=MODULUS), Meaning())

    def close(self) -> None:
        self.system.close()


@pytest.fixture(params=["2.0", "1.2"])
def chip(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_deep_quote_of_a_tpm_2_0_is_a_quote_of_the_chip(tmp_path: Path, chip: str) -> None:
    with closing(Running(tmp_path / "s", chip, "2.0")) as running:
        selection = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\1\0\0")]
        asked = DeepQuote(TPM_RH_ENDORSEMENT, NONCE, selection, CHIP_PCRS, 9)
        with refused(TPM_RC_DISABLED):  # There is no identity key yet.
            running.client.run(asked, Password())
        running.provision()
        found = running.client.run(asked, Password())
        assert found.quoted.pcr_digest == sha256(bytes(32)).digest()
        key = running.client.run(CreatePrimary(
            TPM_RH_ENDORSEMENT, TPMS_SENSITIVE_CREATE(b"", b""), ecc(STORAGE, AES128), b"", []), Password())
        signed = running.client.run(
            ParentSignEK(TPM_RH_ENDORSEMENT, key.object_handle, NONCE, CHIP_PCRS), Password())
        running.verified(endorsement_digest(key.name, NONCE), signed.quote)


def test_deep_quotes_that_are_refused_in_a_loop_do_not_fill_the_log(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    time = [0]
    with closing(System(tmp_path / "s", lambda: time[0])) as system:
        device = system.add_guest("web")
        device.start_up("clear")
        device.accept()
        selection = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\1\0\0")]
        asked = DeepQuote(TPM_RH_ENDORSEMENT, NONCE, selection, CHIP_PCRS, 9)
        for time[0] in [*[0] * 50, 1000]:
            with refused(TPM_RC_DISABLED):  # There is no identity key.
                Client(device.execute, os.urandom).run(asked, Password())
    lines = [message for message in caplog.messages if message.startswith("vTPM web: ")]
    assert len(caplog.messages) == len(lines) == BURST + 2
    assert len(set(lines[:BURST])) == 1
    assert lines[BURST] == "vTPM web: 40 more refusals, too many to log each"


def test_a_deep_quote_of_a_tpm_1_2_is_a_quote_of_the_chip(tmp_path: Path, chip: str) -> None:
    with closing(Running(tmp_path / "s", chip, "1.2")) as running:
        client = running.client12
        public = client.run(ReadPubek(NONCE))
        take_ownership(client, public.pub_endorsement_key)
        selection = TPM_PCR_SELECTION(CHIP_PCRS)
        with refused(TPM_KEYNOTFOUND):
            client.run(DeepQuote12(NONCE, selection, selection, 0), once(client.oiap(OWNER_AUTH)))
        running.provision()
        signed = client.run(ParentSignEK12(NONCE, selection), once(client.oiap(OWNER_AUTH)))
        running.verified(public.checksum, signed.quote)


@pytest.mark.parametrize("tpm", ["2.0", "1.2"])
def test_a_deep_quote_is_verified_from_public_keys_alone(tmp_path: Path, chip: str, tpm: str) -> None:
    place, aik, quote = tmp_path / "s", tmp_path / "aik.pem", tmp_path / "quote"
    (tmp_path / "saa.pub").write_bytes(pem.rsa_public(MODULUS))

    def cusetpm(*words: str | Path, expect: int = 0) -> str:
        done = subprocess.run([sys.executable, "-I", "-m", "cusetpm", *map(str, words)], capture_output=True,
                              text=True, check=False, timeout=120)
        assert done.returncode == expect, done.stderr
        return done.stdout + done.stderr

    if tpm == "1.2":
        with closing(Running(place, chip, tpm)) as running:
            take_ownership(running.client12, running.client12.run(ReadPubek(NONCE)).pub_endorsement_key)
        write(place, Settings(chip=chip))
    else:
        cusetpm("manager", "--state-dir", place, "init", "--chip", chip)
    cusetpm("manager", "--state-dir", place, "group", "new", "--saa", tmp_path / "saa.pub", "--aik", aik)
    cusetpm("run", "--tpm", tpm, "--state-dir", place, "--front-end", "socket", "--label", LABEL, "--",
            sys.executable, "-I", "-m", "cusetpm", "deepquote", "--nonce", NONCE.hex(), "--pcrs", "0,17",
            "--auth", f"hash:{OWNER_AUTH.hex()}" if tpm == "1.2" else "well-known",
            "--with", "measurements", "--evidence", quote)
    verify = ("manager", "verify-quote", quote, "--aik", aik, "--nonce", NONCE.hex(), "--saa",
              tmp_path / "saa.pub", "--kernel", sha1(LABEL.encode()).hexdigest())
    said = cusetpm(*verify)
    size = 20 if tpm == "1.2" else 32
    assert f"the guest's PCR 0: {'00' * size}\nthe guest's PCR 17: {'ff' * size}\n" in said
    assert "PCR 20: the key of the group's SAA is what was given\n" in said
    evidence = json.loads(quote.read_text())
    evidence["guest"]["values"] = "01" + evidence["guest"]["values"][2:]
    quote.write_text(json.dumps(evidence))
    assert "the values of the guest's PCRs are not those that were quoted" in cusetpm(*verify, expect=1)


def test_requests_of_an_administrative_vtpm_reach_the_manager(tmp_path: Path, chip: str) -> None:
    with closing(Running(tmp_path / "s", chip, "2.0")) as running:
        asked = requests.GroupList()
        response = running.device.execute(requests.pack_request(asked))
        assert requests.read_response(asked, response).count == 1
        other = running.system.add_guest("other")
        other.start_up("clear")
        other.accept()
        with pytest.raises(requests.Refusal):
            requests.read_response(asked, other.execute(requests.pack_request(asked)))


def test_a_request_for_the_chip_becomes_a_command_of_tpm_1_2(tmp_path: Path, chip: str) -> None:
    with closing(Running(tmp_path / "s", chip, "2.0")) as running:
        response = running.device.execute(bytes.fromhex("01c1 0000000e 00000015 00000011"))  # PcrRead of 17
        assert response_code(response) == 0
        assert response[10:] == b"\xff" * 20


@pytest.mark.parametrize("tpm", ["2.0", "1.2"])
def test_pcrs_begin_with_those_of_the_chip_and_the_boot_hash(tmp_path: Path, chip: str, tpm: str) -> None:
    with closing(System(tmp_path / "s", chip=chip)) as system:
        device = system.add_guest("tpm0", tpm=tpm, label=LABEL, hwinitpcr=b"\1\0\2", boot_hash=True)
        device.start_up("clear")
        label = sha1(LABEL.encode()).digest()
        if tpm == "1.2":
            run = Client12(device.execute, os.urandom).run
            assert run(PcrRead(0)).out_digest == sha1(bytes(20) + label).digest()
            assert run(PcrRead(17)).out_digest == b"\xff" * 20
            assert run(PcrRead(16)).out_digest == bytes(20)
            return
        values = Client(device.execute, os.urandom).run(PCRRead([
            TPMS_PCR_SELECTION(ids.SHA1, b"\1\0\2"), TPMS_PCR_SELECTION(ids.SHA256, b"\1\0\0")])).pcr_values
        assert values == [sha1(bytes(20) + label).digest(), b"\xff" * 20,
                          sha256(bytes(32) + label.ljust(32, b"\0")).digest()]


def test_pcrs_that_the_chip_does_not_give_keep_the_tpm_from_starting(
        tmp_path: Path, chip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(System(tmp_path / "s", chip=chip)) as system:
        monkeypatch.setattr(system.service, "pass_through",
                            lambda *_: bytes.fromhex("00c4 0000000a 00000009"))
        with pytest.raises((StateError, TpmError), match="its first PCRs are not to be had"):
            system.add_guest("tpm0", hwinitpcr=b"\1\0\0")
