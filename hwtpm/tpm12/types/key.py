"""The TPM_KEY complex (Part 2, 10)."""

from __future__ import annotations

from typing import Annotated, Final

from hwtpm.tpm12.types.base import SECRET_SIZED, SIZED, TPM_DIGEST, TPM_SECRET, UINT8, UINT16, UINT32
from hwtpm.tpm12.types.codes import TPM_BAD_KEY_PROPERTY
from hwtpm.wire import Int, Wire

STRUCT_VER_1_1: Final = 0x0101
"""Major and minor number of the TPM_STRUCT_VER that structures of TPM 1.1 begin with (Part 2, 5.1)."""

TPM_KEY_FLAGS = Annotated[int, Int("I", allowed=range(0x20), rc=TPM_BAD_KEY_PROPERTY)]
"""TPM_REDIRECTION to TPM_MIGRATEAUTHORITY; a bit that is not defined is an error (Part 2, 5.10)."""


class TPM_RSA_KEY_PARMS(Wire):
    """An empty exponent stands for 65537.  Part 2, 10.1.1."""

    key_length: UINT32
    num_primes: UINT32
    exponent: SIZED


class TPM_SYMMETRIC_KEY_PARMS(Wire):
    """Part 2, 10.1.2."""

    key_length: UINT32
    block_size: UINT32
    iv: SIZED


class TPM_KEY_PARMS(Wire):
    """*parms* is a TPM_RSA_KEY_PARMS for TPM_ALG_RSA.  Part 2, 10.1."""

    algorithm_id: UINT32
    enc_scheme: UINT16
    sig_scheme: UINT16
    parms: SIZED


class TPM_KEY(Wire):
    """A TPM_KEY or TPM_KEY12, which differ in their first four octets and in the kind of PCR information.

    TPM_KEY begins with a TPM_STRUCT_VER 1.1.0.0 and its *pcr_info* is a TPM_PCR_INFO; TPM_KEY12 begins with
    TPM_TAG_KEY12 and two zero octets, and its *pcr_info* is a TPM_PCR_INFO_LONG.  Part 2, 10.2 and 10.3.
    """

    tag: UINT16
    fill: UINT16
    key_usage: UINT16
    key_flags: TPM_KEY_FLAGS
    auth_data_usage: UINT8
    algorithm_parms: TPM_KEY_PARMS
    pcr_info: SIZED
    pub_key: SIZED
    enc_data: SIZED


class TPM_PUBKEY(Wire):
    """Part 2, 10.5; *pub_key* is a TPM_STORE_PUBKEY (10.4): for RSA the modulus."""

    algorithm_parms: TPM_KEY_PARMS
    pub_key: SIZED


class TPM_STORE_ASYMKEY(Wire):
    """What the encrypted part of a key contains; *priv_key* is one prime.  Part 2, 10.6 and 10.7."""

    payload: UINT8
    usage_auth: TPM_SECRET
    migration_auth: TPM_SECRET
    pub_data_digest: TPM_DIGEST
    priv_key: SECRET_SIZED


class TPM_STORE_PRIVKEY(Wire):
    """*key* is one prime.  Part 2, 10.7."""

    key: SECRET_SIZED


class TPM_MIGRATE_ASYMKEY(Wire):
    """What the encrypted part of a key contains while it migrates.  Part 2, 10.8."""

    payload: UINT8
    usage_auth: TPM_SECRET
    pub_data_digest: TPM_DIGEST
    part_priv_key: SECRET_SIZED
