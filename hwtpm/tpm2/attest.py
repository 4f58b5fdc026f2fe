"""Attestation structures: what all of them say, and their signatures (Part 3, 18.1; Part 2, 10.11.12)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from hwtpm.crypto import hashes
from hwtpm.crypto.kdf import kdfa
from hwtpm.tpm2 import schemes
from hwtpm.tpm2.context import Tpm
from hwtpm.tpm2.profile import CONTEXT_INTEGRITY_HASH_ALG, FIRMWARE_VERSION_1, FIRMWARE_VERSION_2
from hwtpm.tpm2.schemes import Chosen
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.types.algorithms import TPMT_SIGNATURE
from hwtpm.tpm2.types.constants import TPM_ALG_ECDAA, TPM_ALG_NULL, TPM_GENERATED_VALUE
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_NULL, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.structures import (
    TPMS_ATTEST,
    TPMS_CERTIFY_INFO,
    TPMS_COMMAND_AUDIT_INFO,
    TPMS_CREATION_INFO,
    TPMS_NV_CERTIFY_INFO,
    TPMS_NV_DIGEST_CERTIFY_INFO,
    TPMS_QUOTE_INFO,
    TPMS_SESSION_AUDIT_INFO,
    TPMS_TIME_ATTEST_INFO,
)
from hwtpm.wire import encode

Attested = (TPMS_CERTIFY_INFO | TPMS_CREATION_INFO | TPMS_QUOTE_INFO | TPMS_COMMAND_AUDIT_INFO
            | TPMS_SESSION_AUDIT_INFO | TPMS_TIME_ATTEST_INFO | TPMS_NV_CERTIFY_INFO
            | TPMS_NV_DIGEST_CERTIFY_INFO)

FIRMWARE_VERSION: Final = FIRMWARE_VERSION_1 << 32 | FIRMWARE_VERSION_2
_OBFUSCATION: Final = Struct(">QII")
_NULL_NAME: Final = TPM_RH_NULL.to_bytes(4, "big")


def attest(tpm: Tpm, key: Object | None, chosen: Chosen, kind: int, attested: Attested,
           qualifying_data: bytes) -> tuple[bytes, TPMT_SIGNATURE]:
    """Return the attestation of *kind* (TPM_ST_ATTEST_*) as octets, and its signature by *key*.

    Without a key the signature is a null one.  resetCount, restartCount and the firmware version are
    obfuscated unless the key is in the endorsement or platform hierarchy.
    """
    clock = tpm.clock.clock_info()
    firmware = FIRMWARE_VERSION
    signer = _NULL_NAME if key is None else key.qualified_name
    if key is None or key.hierarchy not in (TPM_RH_ENDORSEMENT, TPM_RH_PLATFORM):
        version, reset, restart = _obfuscation(tpm, key, signer)
        firmware = (firmware + version) & 0xFFFFFFFFFFFFFFFF
        clock.reset_count = (clock.reset_count + reset) & 0xFFFFFFFF
        clock.restart_count = (clock.restart_count + restart) & 0xFFFFFFFF
    # What an anonymous signer signs names neither it nor the caller (Part 1, 44.3.3.3).
    anonymous = chosen.alg == TPM_ALG_ECDAA
    names = (b"", b"") if anonymous else (signer, qualifying_data)
    octets = encode(TPMS_ATTEST(TPM_GENERATED_VALUE, kind, *names, clock, firmware, attested))
    if key is None:
        return octets, schemes.sign(tpm, None, chosen, b"")
    digest = hashes.digest(chosen.hash_alg, octets)
    if anonymous:
        digest = hashes.digest(chosen.hash_alg, qualifying_data, digest)
    signature = schemes.sign(tpm, key, chosen, digest)
    # A Clock that has been signed must not come again, as it would after an orderly Shutdown before this.
    if tpm.power.orderly is not None:
        tpm.power.nullify()
    return octets, signature


def _obfuscation(tpm: Tpm, key: Object | None, signer: bytes) -> tuple[int, int, int]:
    """Return what is added to firmware version, resetCount and restartCount (Part 1, 33.7).

    It is the same for one key as long as the storage hierarchy's proof is, and tells nothing about another's.
    """
    alg = CONTEXT_INTEGRITY_HASH_ALG
    if key is not None and key.public.name_alg != TPM_ALG_NULL:
        alg = key.public.name_alg
    octets = kdfa(alg, tpm.hierarchies.proof(TPM_RH_OWNER), b"OBFUSCATE", signer, b"", 128)
    version, reset, restart = _OBFUSCATION.unpack(octets)
    return version, reset, restart
