"""What a program does that uses tpm2-pytss: measure, seal to it, sign, hold many keys, and keep a counter.

Run by the Python that has tpm2-pytss.  The TPM is that of TPM2TOOLS_TCTI; prints what it found.
"""

from __future__ import annotations

import os

from tpm2_pytss import ESAPI, TCTILdr
from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_CAP, TPM2_NT, TPM2_PT, TPM2_SE, TPMA_NV, TPMA_SESSION
from tpm2_pytss.TSS2_Exception import TSS2_Exception
from tpm2_pytss.types import (
    TPM2B_DIGEST,
    TPM2B_NV_PUBLIC,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPM2B_SENSITIVE_DATA,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMS_NV_PUBLIC,
    TPMS_SENSITIVE_CREATE,
    TPMT_HA,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMT_TK_HASHCHECK,
    TPMU_HA,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
)

NULL = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)
PCR = "sha256:16"


def extend(tpm: ESAPI) -> None:
    digest = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes(31) + b"\1"))
    tpm.pcr_extend(ESYS_TR.PCR16, TPML_DIGEST_VALUES([digest]))


def policy(tpm: ESAPI, kind: int) -> tuple[ESYS_TR, TPM2B_DIGEST]:
    session = tpm.start_auth_session(ESYS_TR.NONE, ESYS_TR.NONE, kind, NULL, TPM2_ALG.SHA256)
    tpm.policy_pcr(session, TPM2B_DIGEST(), TPML_PCR_SELECTION.parse(PCR))
    return session, tpm.policy_get_digest(session)


def main() -> None:
    name, _, configuration = os.environ["TPM2TOOLS_TCTI"].partition(":")
    with ESAPI(TCTILdr(name, configuration)) as tpm:
        _, found = tpm.get_capability(TPM2_CAP.TPM_PROPERTIES, TPM2_PT.FAMILY_INDICATOR, 1)
        print("family", found.data.tpmProperties[0].value.to_bytes(4, "big").rstrip(b"\0").decode())
        print("random", len(bytes(tpm.get_random(16))))

        # A secret that this value of the PCR opens, and the next does not.
        extend(tpm)
        trial, digest = policy(tpm, TPM2_SE.TRIAL)
        tpm.flush_context(trial)
        parent, *_ = tpm.create_primary(None, TPM2B_PUBLIC.parse("ecc256:aes128cfb",
                                        objectAttributes="fixedtpm|fixedparent|sensitivedataorigin|"
                                                         "userwithauth|restricted|decrypt"))
        secret = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(data=TPM2B_SENSITIVE_DATA(b"secret")))
        template = TPM2B_PUBLIC.parse("keyedhash", objectAttributes="fixedtpm|fixedparent",
                                      authPolicy=bytes(digest))
        private, public, *_ = tpm.create(parent, secret, template)
        sealed = tpm.load(parent, private, public)
        session, _ = policy(tpm, TPM2_SE.POLICY)
        print("unsealed", bytes(tpm.unseal(sealed, session1=session)).decode())
        extend(tpm)
        tpm.flush_context(session)
        session, _ = policy(tpm, TPM2_SE.POLICY)
        try:
            tpm.unseal(sealed, session1=session)
        except TSS2_Exception:
            print("refused")
        tpm.flush_context(session)
        tpm.flush_context(sealed)

        # A signature, through a session whose parameters are encrypted.
        private, public, *_ = tpm.create(parent, None, TPM2B_PUBLIC.parse(
            "ecc256:ecdsa-sha256",
            objectAttributes="fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"))
        key = tpm.load(parent, private, public)
        cipher = TPMT_SYM_DEF(algorithm=TPM2_ALG.AES, keyBits=TPMU_SYM_KEY_BITS(sym=128),
                              mode=TPMU_SYM_MODE(sym=TPM2_ALG.CFB))
        session = tpm.start_auth_session(parent, parent, TPM2_SE.HMAC, cipher, TPM2_ALG.SHA256)
        tpm.trsess_set_attributes(session, TPMA_SESSION.DECRYPT | TPMA_SESSION.CONTINUESESSION)
        message, ticket = tpm.hash(b"a message", TPM2_ALG.SHA256)
        signature = tpm.sign(key, message, TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket, session1=session)
        tpm.verify_signature(key, message, signature)
        print("verified", signature.sigAlg == TPM2_ALG.ECDSA and isinstance(ticket, TPMT_TK_HASHCHECK))

        # More keys at once than a TPM has places for: the resource manager has.
        signing = TPM2B_PUBLIC.parse(
            "ecc256:ecdsa-sha256",
            objectAttributes="fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign")
        keys = [tpm.create_primary(None, signing)[0] for _ in range(20)]
        for one in keys:
            tpm.sign(one, message, TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket)
        print("held", len(keys))

        # A counter.
        attributes = TPMA_NV.OWNERREAD | TPMA_NV.OWNERWRITE | TPMA_NV.AUTHREAD | TPMA_NV.AUTHWRITE
        index = tpm.nv_define_space(None, TPM2B_NV_PUBLIC(TPMS_NV_PUBLIC(
            nvIndex=0x1500030, nameAlg=TPM2_ALG.SHA256, dataSize=8,
            attributes=attributes | TPM2_NT.COUNTER << TPMA_NV.TPM2_NT_SHIFT)))
        tpm.nv_increment(index)
        tpm.nv_increment(index)
        print("counted", int.from_bytes(bytes(tpm.nv_read(index, 8)), "big"))


if __name__ == "__main__":
    main()
