"""MakeCredential and ActivateCredential: between our TPM and swtpm, without a TPM, and their errors.

Not in the lists: TPM_RC_VALUE for a secret that OAEP refuses, where libtpms 0.9 answers TPM_RC_FAILURE;
octets after the point of a secret, which it ignores; a key without nameAlg, which protects nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwtpm.client import Client, Password, Session
from hwtpm.crypto.hashes import digest
from hwtpm.errors import TpmError
from hwtpm.tpm2 import wrapping
from hwtpm.tpm2.requests.object import ActivateCredential, MakeCredential
from hwtpm.tpm2.requests.policy import PolicyCommandCode
from hwtpm.tpm2.templates import protection
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_ADMINWITHPOLICY,
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_NODA,
    TPMA_OBJECT_SIGN,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ECC_NIST_P384,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
    TPM_SE_POLICY,
    TPM_CC_ActivateCredential,
    TPM_CC_PolicyCommandCode,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_OWNER
from hwtpm.tpm2.types.objects import TPMT_PUBLIC, TPMT_SENSITIVE
from hwtpm.wire import encode
from tests.support import templates
from tests.support import tpm2_keys as keys
from tests.support.templates import AES128, AES256
from tests.support.tpm2 import refused, started
from tests.support.tpm2_duplicates import Comparison, child, flush, public_of, random, seed_for
from tests.support.tpm2_pair import Pair

_FIXED_STORAGE = templates.STORAGE | TPMA_OBJECT_NODA
_CREDENTIAL = b"an activation credential"
_NO_AREA = TPMT_SENSITIVE(TPM_ALG_NULL, b"", b"", b"")
KEYS = {
    "rsa": templates.rsa(_FIXED_STORAGE, AES128),
    "ecc": templates.ecc(_FIXED_STORAGE, AES128),
    "p384": templates.ecc(_FIXED_STORAGE, AES256, curve=TPM_ECC_NIST_P384, name_alg=TPM_ALG_SHA384),
}
WAYS = [("ours", "ours"), ("ours", "theirs"), ("theirs", "ours")]


def _credential(key: TPMT_PUBLIC, name: bytes, inside: bytes) -> tuple[bytes, bytes]:
    """Return a credential made without a TPM."""
    seed, conveyed = seed_for(key, b"IDENTITY")
    return wrapping.outer_wrap(key.name_alg, seed, protection(key), name, inside), conveyed


@pytest.mark.parametrize("kind", sorted(KEYS))
@pytest.mark.parametrize(("maker_name", "holder_name"), WAYS)
def test_a_credential_is_activated_by_the_tpm_with_both_keys(pair: Pair, maker_name: str, holder_name: str,
                                                             kind: str) -> None:
    maker, holder = getattr(pair, maker_name), getattr(pair, holder_name)
    key = keys.create_primary(holder, KEYS[kind], TPM_RH_ENDORSEMENT)
    attestation = keys.create_primary(holder, keys.signing_template())
    name = holder.names[attestation]
    at_maker = keys.load(maker, (public_of(holder, key), _NO_AREA), public_only=True, hierarchy=TPM_RH_OWNER)
    size = 48 if kind == "p384" else 32
    for credential in (_CREDENTIAL, b"", bytes(size)):
        made = maker.run(MakeCredential(at_maker, credential, name))
        found = holder.run(ActivateCredential(attestation, key, made.credential_blob, made.secret),
                           Password(), Password())
        assert found.cert_info == credential
    flush(maker, at_maker)
    flush(holder, key, attestation)


def test_refused_credentials_are_those_of_swtpm(pair: Pair) -> None:
    found = Comparison(pair)
    for kind in ("ecc", "rsa"):
        handles = {c: keys.create_primary(c, KEYS[kind]) for c in found.clients}
        activated = {c: keys.create_primary(c, keys.signing_template()) for c in found.clients}
        for what, change in _changes(kind):
            requests = {}
            for client in found.clients:
                area = public_of(client, handles[client])
                blob, conveyed = change(area, client.names[activated[client]])
                requests[client] = ActivateCredential(activated[client], handles[client], blob, conveyed)
            found.both(f"{kind}, {what}", lambda c, r=requests: (  # type: ignore[misc]
                r[c], [Password(), Password()]))
        for size in (0, 31, 32, 33, 48, 64):
            found.both(f"{kind}, {size} octets", lambda c, h=handles, n=size: (  # type: ignore[misc]
                MakeCredential(h[c], bytes(n), bytes(34)), []))
        found.both(f"{kind}, signing key", lambda c, h=activated: (  # type: ignore[misc]
            MakeCredential(h[c], b"", bytes(34)), []))
        found.both(f"{kind}, keys swapped", lambda c, h=handles, a=activated: (  # type: ignore[misc]
            ActivateCredential(h[c], a[c], b"", b""), [Password(), Password()]))
        for client in found.clients:
            flush(client, handles[client], activated[client])
    for areas in (keys.rsa(TPMA_OBJECT_DECRYPT), keys.elliptic(TPMA_OBJECT_DECRYPT),
                  keys.keyed_hash(TPMA_OBJECT_SIGN), keys.cipher(TPMA_OBJECT_DECRYPT)):
        with pair.loaded(areas) as handle:
            for request in (MakeCredential(handle, b"", b""), MakeCredential(handle, bytes(64), bytes(34))):
                found.both("no Storage Key", lambda c, r=request: (r, []))  # type: ignore[misc]
            found.both("no Storage Key to activate with", lambda c, h=handle: (  # type: ignore[misc]
                ActivateCredential(h, h, b"", b""), [Password(), Password()]))
    public = keys.elliptic(0)[0]
    storage = templates.ecc(_FIXED_STORAGE, AES128, x=public.unique.x, y=public.unique.y)  # type: ignore[union-attr]
    with pair.loaded((storage, _NO_AREA), public_only=True, hierarchy=TPM_RH_OWNER) as handle:
        for name in (b"", bytes(4), bytes(34), bytes(66)):
            found.both("public area alone", lambda c, n=name: (  # type: ignore[misc]
                MakeCredential(handle, b"1", n), []))
        found.both("public area alone to activate with", lambda c: (
            ActivateCredential(handle, handle, b"", b""), [Password(), Password()]))
    assert not found.differences, "\n".join(found.differences)
    assert len(found.codes) >= 8


_Change = Callable[[TPMT_PUBLIC, bytes], tuple[bytes, bytes]]


def _changes(kind: str) -> Iterator[tuple[str, _Change]]:
    good = b"\0\4four"
    yield "good", lambda key, name: _credential(key, name, good)
    yield "another name", lambda key, name: _credential(key, name[:-1], good)
    for inside in (b"", b"\0", b"\0\0", b"\0\4fou", b"\0\3four", b"\0\x41" + bytes(65),
                   b"\0\x40" + bytes(64)):
        yield f"inside {inside[:6].hex()}", lambda key, name, inside=inside: (  # type: ignore[misc]
            _credential(key, name, inside))
    for size in (0, 1, 2, 33, 34, 39):
        yield f"cut to {size}", lambda key, name, n=size: (  # type: ignore[misc]
            (made := _credential(key, name, good))[0][:n], made[1])
    for at in (0, 1, 2, 34, 39):
        yield f"changed at {at}", lambda key, name, at=at: (  # type: ignore[misc]
            (made := _credential(key, name, good))[0][:at] + bytes([made[0][at] ^ 1]) + made[0][at + 1 :],
            made[1])
    yield "another seed", lambda key, name: (_credential(key, name, good)[0], seed_for(key, b"IDENTITY")[1])
    if kind == "ecc":
        yield "another label", lambda key, name: (_credential(key, name, good)[0], seed_for(key)[1])
    for seed in (b"", b"\1", bytes(4), b"\0\x20" + bytes(32), b"\0\x20" + bytes(32) + b"\0\x20" + bytes(32)):
        yield f"secret of {len(seed)}", lambda key, name, seed=seed: (  # type: ignore[misc]
            _credential(key, name, good)[0], seed)


def test_a_secret_that_oaep_refuses_is_of_no_value() -> None:
    client = started().client
    key = keys.create_primary(client, KEYS["rsa"])
    area = public_of(client, key)
    for secret in (random(256), b"\xff" * 256, seed_for(area)[1]):
        blob = _credential(area, client.names[key], b"\0\0")[0]
        with refused(TpmError(TPM_RC_VALUE).parameter(2).rc):
            client.run(ActivateCredential(key, key, blob, secret), Password(), Password())


def test_a_key_without_name_protects_no_credential() -> None:
    client = started().client
    areas = keys.elliptic(0)[0]
    nameless = templates.ecc(_FIXED_STORAGE, AES128, name_alg=TPM_ALG_NULL,
                             x=areas.unique.x, y=areas.unique.y)  # type: ignore[union-attr]
    key = keys.load(client, (nameless, _NO_AREA), public_only=True, hierarchy=TPM_RH_OWNER)
    with refused(TpmError(TPM_RC_TYPE).handle(1).rc):
        client.run(MakeCredential(key, b"", bytes(34)))


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_activation_asks_for_the_admin_role(pair: Pair, name: str) -> None:
    """adminWithPolicy: the policy of the activated key, with the code of the command (Part 1, 19.2)."""
    client: Client = getattr(pair, name)
    policy = digest(TPM_ALG_SHA256, bytes(32), TPM_CC_PolicyCommandCode.to_bytes(4, "big"),
                    TPM_CC_ActivateCredential.to_bytes(4, "big"))
    parent = keys.create_primary(client, KEYS["ecc"])
    attributes = templates.SIGNING | TPMA_OBJECT_NODA | TPMA_OBJECT_ADMINWITHPOLICY
    found = child(client, parent, templates.ecc(attributes, policy=policy))
    made = client.run(MakeCredential(parent, _CREDENTIAL, client.names[found]))
    request = ActivateCredential(found, parent, made.credential_blob, made.secret)
    with pytest.raises(TpmError):
        client.run(request, Password(), Password())
    session: Session = client.start_session(TPM_SE_POLICY)
    client.run(PolicyCommandCode(session.handle, TPM_CC_ActivateCredential))
    assert client.run(request, session, Password()).cert_info == _CREDENTIAL
    flush(client, session.handle, found, parent)


def test_a_credential_of_tpm2_makecredential_is_activated(tmp_path: Path) -> None:
    """tpm2_makecredential without a TPM writes a blob that ActivateCredential takes."""
    if shutil.which("tpm2_makecredential") is None:
        pytest.skip("tpm2-tools are not installed")
    client = started().client
    key = keys.create_primary(client, KEYS["rsa"], TPM_RH_ENDORSEMENT)
    found = keys.create_primary(client, keys.signing_template())
    area = encode(public_of(client, key))
    (tmp_path / "key").write_bytes(len(area).to_bytes(2, "big") + area)
    (tmp_path / "secret").write_bytes(_CREDENTIAL)
    subprocess.run(
        ["tpm2_makecredential", "-T", "none", "-u", tmp_path / "key", "-s", tmp_path / "secret",
         "-n", client.names[found].hex(), "-o", tmp_path / "out"], check=True, capture_output=True)
    # A magic number and a version, then the two parameters as the command has them.
    out = (tmp_path / "out").read_bytes()[8:]
    size = int.from_bytes(out[:2], "big")
    blob, rest = out[2 : 2 + size], out[2 + size :]
    answer = client.run(ActivateCredential(found, key, blob, rest[2:]), Password(), Password())
    assert answer.cert_info == _CREDENTIAL
