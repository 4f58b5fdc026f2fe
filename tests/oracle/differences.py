"""Where our TPM answers otherwise than swtpm on purpose, each with the clause that proves ours right.

`why` is a clause of the TPM 2.0 Library Specification, version 185, or "profile": a limit or a set of
algorithms that each implementation chooses.  A full run fails if an entry is not met.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Difference(NamedTuple):
    """Explains the results of commands whose name, mutation and both results match these expressions."""

    command: str  # of the request class
    mutation: str  # searched for in the label
    ours: str
    theirs: str
    why: str
    rare: bool = False  # only some random variations meet it

    def explains(self, command: str, mutation: str, ours: str, theirs: str) -> bool:
        return bool(
            re.fullmatch(self.ours, ours)
            and re.fullmatch(self.theirs, theirs)
            and re.fullmatch(self.command, command)
            and re.search(self.mutation, mutation)
        )


DIFFERENCES: tuple[Difference, ...] = (
    # The command's form and its authorizations
    Difference(".*", "tag = ", "BAD_TAG", "VALUE", "Part 3, 5.2"),
    Difference(".*", "", "AUTHSIZE", "SIZE", "Part 3, 5.5, item 3"),
    Difference(
        "ContextSave|ContextLoad|FlushContext|Startup",
        "tag = 0x8002",
        "AUTH_CONTEXT",
        "INSUFFICIENT|SIZE",
        "Part 3, 5.5, item 1",
    ),
    Difference("ContextLoad", "context", "(SIZE|INSUFFICIENT) P1", "SIZE|INSUFFICIENT", "Part 3, 5.8.2"),
    Difference(
        ".*",
        "over the limit",
        "SIZE P[1-4]",
        "INTEGRITY P[1-3]|TICKET P5|TAG P4|VALUE P4|ok",
        "profile: sizes of a private area and of a name",
    ),
    Difference(
        "PolicyAuthorize|PolicyTicket|CertifyCreation|Sign",
        "",
        "TAG P[3-5]",
        "VALUE P[3-5]",
        "Part 2, 10.6.3 to 10.6.6",
    ),
    Difference(
        ".*",
        "handle|bind|octets|parent|object|key",
        "REFERENCE_H[0-2]",
        "VALUE H[1-3]",
        "profile: 16 objects",
    ),
    Difference("FlushContext", "handle = 0x80000003|octets", "HANDLE P1", "VALUE P1", "profile: 16 objects"),
    # Attributes and algorithms
    Difference(
        ".*",
        r"attributes = 0x[0-9a-f]*[1235679abdef]..\b",
        "ATTRIBUTES P2|INTEGRITY P1|ok",
        "RESERVED_BITS P2",
        "Part 2, 8.3.3.8 and 8.3.3.9",
    ),
    Difference(
        "Create.*|LoadExternal", r"attributes = 0x[89a-f]....\b", "ATTRIBUTES P2", "ok", "Part 2, 8.3.3.15"
    ),
    Difference(
        ".*", "key_bits = 0xc0|octets.*:c0", "ok|SIZE P1|KEY_SIZE P1", "VALUE P[1245]", "profile: AES 192"
    ),
    Difference("Create", "unique at the limit", "ok", "SIZE P2", "profile: RSA 4096", rare=True),
    Difference(
        "LoadExternal", "rsa: .* at the limit", "KEY_SIZE P1|KEY P2", "SIZE P[12]", "profile: RSA 4096"
    ),
    Difference(
        "VerifySignature|PolicySigned",
        "sig at the limit",
        "SIGNATURE P2|POLICY_FAIL P5",
        "SIZE P[25]",
        "profile: RSA 4096",
    ),
    Difference("RSAEncrypt|RSADecrypt", "at the limit", "VALUE|SIZE", "SIZE P1", "profile: RSA 4096"),
    Difference(
        "Import", "in_sym_seed at the limit & ", "[A-Z_]+ P5", "SIZE P4", "profile: RSA 4096", rare=True
    ),
    Difference(
        "StartAuthSession|Rewrap",
        "(salt|seed) at the limit",
        "VALUE P[23]",
        "SIZE P[23]",
        "profile: RSA 4096",
    ),
    Difference("RSAEncrypt|RSADecrypt", "", "VALUE|SIZE", "FAILURE", "Part 3, 14.2 and 14.3"),
    Difference(".*", r"(= 0x|:)(12|2[789])\b", ".*", "(HASH|SYMMETRIC) P.", "profile: SM3 and SHA-3"),
    Difference(
        "ZGen2Phase",
        "in_scheme = 0x1b",
        "differs in out_z1.[xy]",
        "ok",
        "Part 3, 14.7: both ephemeral keys, of which each TPM makes one, go into the result",
    ),
    Difference("ZGen2Phase", "in_scheme = 0x1d", "ok", "FAILURE", "profile: ECMQV"),
    Difference("ZGen2Phase", "", "RANGE P4", "VALUE P4", "Part 1, 44.2.5"),
    Difference("SetPrimaryPolicy", "auth_handle = 0x4000011", "ok", "VALUE H1", "profile: timers"),
    Difference(
        "CertifyX509",
        "sign_handle = 0x40000007",
        "VALUE H2",
        "ended",
        "Part 3, 18.8: TPM_RH_NULL is no signing key; swtpm ends",
    ),
    Difference(
        ".*", "octets", ".* P2|ok|INTEGRITY P1", "RESERVED_BITS P2", "Part 2, 8.3.3.8 and 8.3.3.9", rare=True
    ),
    Difference(
        "PCR.*|Policy.*|Quote",
        "octets",
        "HASH P[12]",
        "SIZE P[12]",
        "profile: more hash algorithms",
        rare=True,
    ),
    Difference(
        ".*", "octets", "INSUFFICIENT P.", "SIZE P.", "profile: RSA 4096, more hash algorithms", rare=True
    ),
    Difference(
        "PolicySecret|StartAuthSession",
        "(handle|bind) = 0x40000010|octets",
        "VALUE H[12]",
        "(VALUE|HANDLE) H[12]",
        "Part 2, 9.6: no vendor-specific authorization values here",
        rare=True,
    ),
    Difference(".*", "name.size lies.* & ", "SIZE P.", "SIZE P.", "profile: the size of a name", rare=True),
    Difference(
        "GetCapability",
        "capability = 0x[b-f]",
        "INSUFFICIENT P[23]|SIZE",
        "VALUE P1",
        "Part 2, 6.12",
        rare=True,
    ),
    Difference(
        "NV.*|Policy.*NV",
        "octets|nv_index = 0x1[12]",
        "(HANDLE|VALUE|REFERENCE_H.) ?(H[1-3])?",
        "VALUE H[123]",
        "Part 2, 9.25 and 9.26",
        rare=True,
    ),
    Difference(
        "CertifyX509",
        "octets|certificate",
        "VALUE P3",
        "ok",
        "Part 3, 18.8: what is no DER is refused",
        rare=True,
    ),
    # Secrets for an ECC key are one point and nothing more
    Difference(
        "ActivateCredential|Import|Rewrap|StartAuthSession",
        "s(ecret|eed|alt) (one long|zeros)",
        "SIZE P[24]|VALUE P[23]",
        "ECC_POINT P[24]|INTEGRITY P[13]|ok",
        "Part 2, 11.4.2: one point and nothing more",
    ),
    # Data
    Difference("Create|CreatePrimary", "", "differs in creation_data.pcr_digest", "ok", "Part 2, 15.1"),
    Difference("PCREvent", "", "differs in digests.count", "ok", "Part 3, 22.3.1"),
    Difference("PCRAllocate", "", "differs in size_available", "ok", "profile: memory for PCRs"),
    Difference(
        "EncryptDecrypt2?",
        "",
        "differs in iv_out",
        "ok",
        "Part 3, 15.1: ivOut is a block; what stands behind a partial last one is not told, and zero here",
    ),
    Difference(
        "NVCertify",
        "sign_handle = 0x40000007",
        "differs in certify_info.attested.nv_digest",
        "ok",
        "Part 3, 31.16.1",
    ),
    Difference("IncrementalSelfTest", "", r"differs in to_do_list.*", "ok", "profile: which tests there are"),
    Difference("GetCapability", "", "differs in group 0", "ok", "profile: algorithms"),
    Difference("GetCapability", "", "differs in group 1", "ok", "profile: timers"),
    Difference("GetCapability", "", "differs in group 2", "ok", "profile: commands"),
    Difference(
        "GetCapability",
        "property_count = 0x0",
        "differs in group 5",
        "ok",
        "Part 3, 30.2.1: always the whole allocation",
    ),
    Difference(
        "GetCapability",
        "",
        "differs in group 7",
        "ok",
        "PC Client Platform TPM Profile 1.05, PCR attributes: locality 3 may reset PCR 20 to 22",
    ),
    Difference("GetCapability", "", "differs in group 8", "ok", "profile: curves"),
    Difference("GetCapability", "", "differs in group (9|10)", "ok", "profile: timers"),
    Difference("GetCapability", "", "differs in fixed properties", "ok", "profile: limits"),
    Difference(
        ".*",
        "power lost",
        "then GetCapability differs in property 0x20e",
        "ok",
        "Part 1, 16.8.6: a failure is stored before it is answered",
    ),
    # Policies
    Difference("PolicySecret|PolicySigned", "nonce_tpm", "VALUE P1", "NONCE P1", "Part 3, 23.2.2"),
    Difference("PolicySigned", "", "POLICY_FAIL P5", "SIGNATURE P5", "Part 3, 23.3.1"),
    Difference("PolicyAuthorize", "", "POLICY", "VALUE P4", "Part 3, 23.16.1"),
    Difference("PolicyNV", "operand_b|offset", "NV_RANGE", "SIZE P1", "Part 3, 23.9.1"),
)
