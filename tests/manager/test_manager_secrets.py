"""A chip whose owner and storage key have passwords."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hwtpm.client import Password
from hwtpm.tpm2.requests.context import EvictControl, FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary, HierarchyChangeAuth
from hwtpm.tpm2.types.algorithms import TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_NODA
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm2.types.objects import TPMT_PUBLIC
from hwtpm.tpm12.requests.ownership import OwnerClear
from manager import identity12, identity20, sealing12, sealing20
from tests.manager.chips import LOCALITY, TestChip, TestChip12, chip_of
from tests.manager.stores import A, kept, manager, refused
from tests.support import templates
from tests.support.tpm12 import once

OWNER, SRK = b"o" * 20, b"s" * 20
HANDLE = 0x81000123
SHARED = templates.STORAGE | TPMA_OBJECT_NODA  # as the TCG has the storage root key that all may use


@pytest.fixture(params=["own-1.2", "swtpm-1.2"])
def chip12(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestChip12]:
    with closing(chip_of(request.param, tmp_path / "chip")) as made:
        assert isinstance(made, TestChip12)
        yield made


@pytest.fixture(params=["own-2.0", "swtpm-2.0"])
def chip20(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestChip]:
    with closing(chip_of(request.param, tmp_path / "chip")) as made:
        yield made


def use12(chip: TestChip12, owner: bytes = bytes(20), srk: bytes = bytes(20)) -> None:
    """The manager is told these secrets."""
    chip.sealing = identity12.Chip12(chip.client12, os.urandom, LOCALITY, sealing12.Secrets(owner, srk))


def use20(chip: TestChip, owner: bytes = b"", handle: int = 0, srk: bytes = b"") -> None:
    chip.sealing = identity20.Chip20(chip.client, os.urandom, sealing20.Secrets(owner, handle, srk))


def attests(chip: TestChip) -> None:
    """All that needs the owner and the storage key is done with their secrets."""
    with chip.sealing.conversation(None) as talk:
        made = talk.make_aik(bytes(20), b"a" * 20)
        extern = bytes(20 if chip.family == "1.2" else 32)
        assert talk.quote(made.aik.blob, b"a" * 20, b"\1\0\0", extern).values
        assert talk.endorsement_key()
        index = 0x00011101 if chip.family == "1.2" else 0x01800077
        talk.define_area(index, 8, b"a" * 20)
        talk.define_area(index, 0, b"a" * 20)
    chip.nothing_is_loaded()


def saves(path: Path, chip: TestChip) -> None:
    with closing(manager(path, chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    assert kept(path, chip, A) == [b"1" * 64]
    chip.nothing_is_loaded()


def test_a_tpm_12_gets_the_secrets_that_are_set(path: Path, chip12: TestChip12) -> None:
    use12(chip12, OWNER, SRK)
    saves(path, chip12)
    attests(chip12)
    use12(chip12, bytes(20), SRK)
    refused(path, chip12, "owner with a password; set owner_auth")
    use12(chip12, OWNER)
    refused(path, chip12, "storage root key has another secret than srk_auth")
    chip12.client12.run(OwnerClear(), once(chip12.client12.oiap(OWNER)))


def persistent(chip: TestChip, template: TPMT_PUBLIC, secret: bytes) -> None:
    """The chip has a storage key at HANDLE, whose hierarchy has the password OWNER."""
    made = chip.client.run(CreatePrimary(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(secret, b""), template, b"", []),
                           Password(OWNER)).object_handle
    chip.client.run(EvictControl(TPM_RH_OWNER, made, HANDLE), Password(OWNER))
    chip.client.run(FlushContext(made))


def test_a_tpm_2_with_an_owner_password_wants_it(path: Path, chip20: TestChip) -> None:
    chip20.client.run(HierarchyChangeAuth(TPM_RH_OWNER, OWNER), Password())
    use20(chip20, OWNER)
    saves(path, chip20)
    attests(chip20)
    use20(chip20, b"another")
    refused(path, chip20, "owner password; set owner_auth")


@pytest.mark.parametrize("template", [
    templates.rsa(SHARED, templates.AES128), templates.ecc(SHARED, templates.AES256)],
    ids=["RSA", "ECC"])
def test_a_persistent_storage_key_is_used_with_its_secret(
        path: Path, chip20: TestChip, template: TPMT_PUBLIC) -> None:
    chip20.client.run(HierarchyChangeAuth(TPM_RH_OWNER, OWNER), Password())
    persistent(chip20, template, SRK)
    use20(chip20, OWNER, HANDLE, SRK)
    saves(path, chip20)
    attests(chip20)
    use20(chip20, OWNER, HANDLE, b"wrong")
    refused(path, chip20, "another secret than srk_auth")
    use20(chip20, OWNER, HANDLE + 1, SRK)
    refused(path, chip20, "no key at srk_handle 0x81000124")
    use20(chip20, OWNER)
    refused(path, chip20, "another chip, or this chip was cleared")


def test_the_secrets_are_in_no_repr() -> None:
    for value in sealing12.Secrets(OWNER, SRK), sealing20.Secrets(OWNER, 0, SRK):
        assert "o" * 20 not in repr(value)
        assert "s" * 20 not in repr(value)
