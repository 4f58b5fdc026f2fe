"""Where our TPM 1.2 answers otherwise than swtpm on purpose, each with the clause that proves ours right.

`why` is a clause of the TPM Main Specification 1.2, revision 116, or "profile": a limit or an option that
each implementation chooses.  A full run fails if an entry is not met.
"""

from __future__ import annotations

from tests.oracle.differences import Difference

DIFFERENCES: tuple[Difference, ...] = (
    # Sizes: the parameters are not those that the size of the command, or of a structure, says.
    Difference(".*", "", "BAD_PARAM_SIZE", "SIZE|BAD_PARAMETER|INVALID_STRUCTURE",
               "Part 2, 16: TPM_BAD_PARAM_SIZE"),
    Difference(".*", "of [0-9]+$|long$|parms", "BAD_PARAM_SIZE", "ok", "Part 2, 16: TPM_BAD_PARAM_SIZE"),
    Difference("CMKConvertMigration", "msa_list.size cut", "INVALID_STRUCTURE", "SIZE",
               "Part 2, 5.15: a TPM_MSA_COMPOSITE has at least one digest"),
    Difference("NVDefineSpace", "pcr_select", "INVALID_PCR_INFO", "INVALID_STRUCTURE",
               "Part 2, 8.1: TPM_INVALID_PCR_INFO"),
    Difference("StirRandom", "in_data", "BAD_PARAMETER", "SIZE", "Part 3, 13.7: action 1"),
    # Authorizations
    Difference(".*", "handle of authorization . = 0x0$", "INVALID_AUTHHANDLE", "AUTHFAIL|AUTH2FAIL",
               "Part 2, 16: TPM_INVALID_AUTHHANDLE"),
    Difference("ActivateIdentity", "authorization", "AUTHFAIL", "AUTH2FAIL", "Part 2, 16: TPM_AUTH2FAIL"),
    Difference("ActivateIdentity", "authorization", "AUTH2FAIL", "AUTHFAIL", "Part 2, 16: TPM_AUTH2FAIL"),
    Difference("ExecuteTransport", "authorization", "AUTHFAIL", "AUTH2FAIL", "Part 3, 24.2: action 7.c"),
    Difference("NVReadValue", "authorization", "AUTHFAIL", "ok", "Part 3, 20.4: action 1.c"),
    # Administration
    Difference("SetCapability", "cap_area", "BAD_PARAMETER", "BAD_MODE", "Part 3, 7.2: action 4"),
    Difference("SetOrdinalAuditStatus", "", "BADINDEX", "BAD_PARAMETER|ok", "Part 3, 8.5: action 2"),
    Difference("GetCapability(Owner)?", "owner cleared|valid|capability_4_00000108",
               "differs in (resp|non_volatile_flags)", "ok", "Part 3, 12: maintenance is optional"),
    # Keys
    Difference(".*", "tag|cut", "BAD_KEY_PROPERTY", "BAD_VERSION", "Part 2, 10.2 and 10.3: neither of both"),
    Difference("ChangeAuthAsymStart", "", "differs in certify_info.parent_pcr_status", "ok",
               "Part 3, 27.4.1: parentPCRStatus is FALSE"),
    Difference("CreateMigrationBlob", "migration_key_auth", "AUTHFAIL", "ok|BAD_KEY_PROPERTY",
               "Part 3, 11.1: the digest of the owner's permission covers it"),
    Difference("DAA(Join|Sign)", r"after Startup\(ST_STATE\)", "BAD_HANDLE", "ok",
               "Part 2, 22.5: DAA_stage is 0 after any TPM_Startup"),
    Difference("KeyControlOwner", "algorithm_id", "BAD_PARAMETER", "BAD_KEY_PROPERTY",
               "Part 3, 21.1: a public key that is not that of the handle"),
    Difference("Quote2", "add_version = 0x1", "differs in (version_info|sig)", "ok", "profile: the vendor"),
)
