"""Maintenance functions: the SRK moves to another TPM (Part 3, 12).

The owner makes an archive, which only the manufacturer can decrypt, and only to octets that random ones or
the owner's secret hide from him.  He encrypts these for the SRK of the TPM that replaces the old one, and
signs them; the owner of that TPM loads them.
"""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest
from typing import Final

from hwtpm.crypto import ids
from hwtpm.crypto.errors import BadKey, CryptoError
from hwtpm.crypto.kdf import mgf1
from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_owner
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.migrating import pack, unpack, xor
from hwtpm.tpm12.requests.command import Empty
from hwtpm.tpm12.requests.maintenance import (
    CreateMaintenanceArchive,
    CreateMaintenanceArchiveResponse,
    KillMaintenanceFeature,
    LoadMaintenanceArchive,
    LoadManuMaintPub,
    ManuMaintPubResponse,
    ReadManuMaintPub,
)
from hwtpm.tpm12.state.keys import Key, pub_data_digest
from hwtpm.tpm12.types.codes import (
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_PARAMETER,
    TPM_BAD_SIGNATURE,
    TPM_DECRYPT_ERROR,
    TPM_DISABLED_CMD,
    TPM_INVALID_KEYUSAGE,
    TPM_KEYNOTFOUND,
)
from hwtpm.tpm12.types.constants import TPM_KEY_STORAGE, TPM_MIGRATABLE, TPM_PT_ASYM, TPM_PT_MAINT
from hwtpm.tpm12.types.key import TPM_KEY, TPM_PUBKEY, TPM_STORE_ASYMKEY
from hwtpm.tpm12.wrapping import (
    check_parms,
    check_properties,
    decrypt,
    encrypt,
    public_key,
    with_enc_data,
)
from hwtpm.wire import decode, encode

_BITS: Final = 2048  # of a maintenance key, and at least


@handles
def create_maintenance_archive(tpm: Tpm, call: Call,
                               cmd: CreateMaintenanceArchive) -> CreateMaintenanceArchiveResponse:
    """The SRK is returned under the maintenance key, hidden from its owner.  Part 3, 12.1."""
    # Input Validation
    if not tpm.flags.permanent.allow_maintenance:
        raise TpmError(TPM_DISABLED_CMD)
    authorize_owner(tpm, call)
    manufacturer, srk = tpm.permanent.manu_maint_pub, tpm.permanent.srk
    if manufacturer is None or srk is None:
        raise TpmError(TPM_KEYNOTFOUND)
    # Command Output
    proof = tpm.permanent.tpm_proof  # takes the place of the secret of the SRK
    stored = TPM_STORE_ASYMKEY(TPM_PT_ASYM, proof, bytes(20), srk.pub_data_digest, srk.prime)
    plain = pack(stored, TPM_PT_MAINT, tpm.permanent.owner_auth)
    random = tpm.random(len(plain)) if cmd.generate_random else b""
    hidden = xor(plain, random or _mask(tpm, len(plain)))
    archive = with_enc_data(srk.public, encrypt(public_key(manufacturer), hidden))
    # Internal Data Update
    tpm.flags.set(maintenance_done=True)
    return CreateMaintenanceArchiveResponse(random, encode(archive))


def _mask(tpm: Tpm, size: int) -> bytes:
    """Return *size* octets that who knows the owner's secret can make, too."""
    return mgf1(ids.SHA1, tpm.permanent.owner_auth, size)


@handles
def load_maintenance_archive(tpm: Tpm, call: Call, cmd: LoadMaintenanceArchive) -> Empty:
    """The TPM has SRK, proof and owner of the one that made the archive, nothing of its own.  Part 3, 12.2.

    The secret of the SRK is that of the owner then.  TPM_BAD_SIGNATURE unless the maintenance key has signed
    the archive, TPM_DECRYPT_ERROR for one that is not for this TPM or hidden otherwise, TPM_BAD_MIGRATION for
    a key that travels for another reason.
    """
    # Input Validation
    authorize_owner(tpm, call).continues = 0
    _check_sender(tpm, cmd)
    archive = decode(TPM_KEY, cmd.archive)
    check_properties(archive, fips=bool(tpm.flags.permanent.fips))
    if archive.key_usage != TPM_KEY_STORAGE or archive.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    old = tpm.permanent.srk
    assert old is not None, "where there is an owner, there is an SRK"
    hidden = decrypt(old, archive.enc_data)
    if len(cmd.random) not in (0, len(hidden)):
        raise TpmError(TPM_BAD_PARAMETER)
    arrived = unpack(xor(hidden, cmd.random or _mask(tpm, len(hidden))), TPM_PT_MAINT)
    if not compare_digest(arrived.pub_data_digest, pub_data_digest(archive)):
        raise TpmError(TPM_DECRYPT_ERROR)
    proof, owner_auth = arrived.usage_auth, arrived.p_hash
    try:
        srk = Key(with_enc_data(archive, b""), TPM_PT_ASYM, owner_auth, proof, arrived.prime)
    except BadKey:
        raise TpmError(TPM_BAD_KEY_PROPERTY) from None
    # Internal Data Update
    tpm.owner_clear()
    tpm.permanent.set(srk=srk, tpm_proof=proof, owner_auth=owner_auth, owner_installed=True)
    tpm.flags.set(maintenance_done=True)
    # Command Output
    return Empty()


def _check_sender(tpm: Tpm, cmd: LoadMaintenanceArchive) -> None:
    """The archive comes from who has the maintenance key (Part 3, 12.2: action 2)."""
    manufacturer = tpm.permanent.manu_maint_pub
    if manufacturer is None:
        raise TpmError(TPM_KEYNOTFOUND)
    try:
        digest = sha1(cmd.archive + cmd.random).digest()
        public_key(manufacturer).verify_pkcs1(ids.SHA1, digest, cmd.sig)
    except CryptoError:
        raise TpmError(TPM_BAD_SIGNATURE) from None


@handles
def kill_maintenance_feature(tpm: Tpm, call: Call, cmd: KillMaintenanceFeature) -> Empty:
    """No archive can be made until the TPM has been cleared.  Part 3, 12.3."""
    # Input Validation
    authorize_owner(tpm, call)
    # Internal Data Update
    tpm.flags.set(allow_maintenance=False)
    # Command Output
    return Empty()


@handles
def load_manu_maint_pub(tpm: Tpm, call: Call, cmd: LoadManuMaintPub) -> ManuMaintPubResponse:
    """The TPM has a maintenance key, which stays; there was none.  Part 3, 12.4."""
    # Input Validation
    if tpm.permanent.manu_maint_pub is not None:
        raise TpmError(TPM_DISABLED_CMD)
    rsa = check_parms(cmd.pub_key.algorithm_parms, TPM_KEY_STORAGE)
    if rsa.key_length < _BITS:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    public_key(cmd.pub_key)
    # Internal Data Update
    tpm.permanent.set(manu_maint_pub=cmd.pub_key)
    # Command Output
    return _checksum(cmd.pub_key, cmd.anti_replay)


@handles
def read_manu_maint_pub(tpm: Tpm, call: Call, cmd: ReadManuMaintPub) -> ManuMaintPubResponse:
    """The digest of the maintenance key is returned; TPM_KEYNOTFOUND without one.  Part 3, 12.5."""
    # Input Validation
    key = tpm.permanent.manu_maint_pub
    if key is None:
        raise TpmError(TPM_KEYNOTFOUND)
    # Command Output
    return _checksum(key, cmd.anti_replay)


def _checksum(key: TPM_PUBKEY, anti_replay: bytes) -> ManuMaintPubResponse:
    return ManuMaintPubResponse(sha1(encode(key) + anti_replay).digest())
