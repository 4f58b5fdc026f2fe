"""Where our TPM 1.2 answers otherwise than swtpm on purpose, each with the clause that proves ours right.

`why` is a clause of the TPM Main Specification 1.2, revision 116, or "profile": a limit or an option that
each implementation chooses.  A full run fails if an entry is not met.

swtpm decodes every structure of a command, and checks some of its values, before it looks at authorizations;
ours decodes what is in a field with a size of its own when the action list comes to it.  So of two faults of
a command the two may name different ones, and only ours has then ended the sessions.
"""

from __future__ import annotations

from tests.oracle.differences import Difference

# Commands whose parameters contain a key or its parameters, and where.
_OF_KEYS = (
    "TakeOwnership|CreateWrapKey|LoadKey2?|MakeIdentity|ChangeAuthAsymStart|AuthorizeMigrationKey|MigrateKey|"
    "CMKCreateKey|CMKCreateTicket|CMKConvertMigration|CreateEndorsementKeyPair|CreateRevocableEK"
)
_PARMS = r"[:,] (\w+\.(algorithm_parms\.)?)+(parms|algorithm_id)"
_RANDOM = "DECRYPT_ERROR|INVALID_STRUCTURE|BAD_MIGRATION|BAD_PARAM_SIZE|AUTHFAIL"
_SESSIONS_END = "Part 3, 18.2, action 14.a, and 18.3, 6.a: an error ends the session that was used"

DIFFERENCES: tuple[Difference, ...] = (
    # Sizes.  TPM_SIZE is for want of space: swtpm gives it for more than 64 KiB before it looks whether there
    # is so much.
    Difference(".*", r"size (lies|=)|size$|size,|octets|led by zero", "BAD_PARAM_SIZE", "SIZE",
               "Part 2, 16: TPM_SIZE is want of space, TPM_BAD_PARAM_SIZE a wrong size"),
    Difference("CMK(CreateBlob|ConvertMigration)", "mig_auth_digest.count", "INVALID_STRUCTURE",
               "SIZE|BAD_PARAM_SIZE", "Part 2, 5.15: TPMs need not support long lists"),
    Difference(_OF_KEYS, rf"{_PARMS} (one long|of [0-9]+)", "BAD_PARAM_SIZE", "ok",
               "Part 2, 10.1: parmSize is the size of the parms"),
    Difference(_OF_KEYS, r"octets .*(algorithm_id = .*parms\.size|parms\.size.*algorithm_id = )",
               "BAD_PARAM_SIZE", "BAD_KEY_PROPERTY",
               "Part 2, 10.1: the size of the parms is wrong for any algorithm", rare=True),
    Difference("GetCapability", "capability_18_.*sub_cap (one long|of [0-9]+)", "BAD_PARAM_SIZE", "ok",
               "Part 2, 5.18: the size of a TPM_SELECT_SIZE"),
    Difference("DelegateLoadOwnerDelegation", r"blob\.size lies: the most", "BAD_PARAM_SIZE", "ok",
               "Part 3, 19.4: blobSize is the size of the blob"),
    Difference("DelegateLoadOwnerDelegation", "blob (one short|one long)", "BAD_PARAM_SIZE", "BAD_PARAMETER",
               "Part 3, 19.4: blobSize is the size of the blob"),
    Difference("DelegateLoadOwnerDelegation", "blob (empty|of [0-9]+)", "BAD_PARAM_SIZE", "INVALID_STRUCTURE",
               "Part 3, 19.4: blobSize is the size of the blob"),
    Difference("Delegate(UpdateVerification|VerifyDelegation)", "(input_data|delegation) one long",
               "BAD_PARAM_SIZE", "ok", "Part 3, 19.6 and 19.7: the size is that of the blob"),
    Difference("DSAP", "dsap_blob: entity_value one long", "WRONG_ENTITYTYPE", "ok",
               "Part 3, 18.3: action 1.b"),
    Difference("LoadContext|LoadAuthContext|LoadKeyContext", r"context_blob\.size lies: the most",
               "BAD_PARAM_SIZE", "ok", "Part 3, 21.3: contextSize is the size of contextBlob"),
    Difference("CMKCreateBlob", "sig_ticket (one long|of 32)", "BAD_PARAM_SIZE", "ok",
               "Part 3, 11.9: sigTicket is a TPM_HMAC"),
    Difference("CMKCreateBlob", "sig_ticket led by zero", "BAD_PARAM_SIZE", "MA_TICKET_SIGNATURE",
               "Part 3, 11.9: sigTicket is a TPM_HMAC"),
    Difference("AuthorizeMigrationKey", r"parms\.size", "BAD_PARAMETER", "BAD_PARAM_SIZE",
               "Part 2, 10.1: what follows the parms is wrong, too"),
    Difference("CreateRevocableEK", "octets .* key_info.* generate_reset = ", "BAD_PARAMETER",
               "BAD_PARAM_SIZE|SIZE|BAD_KEY_PROPERTY", "Part 2, 2.2.2: a BOOL is TRUE or FALSE", rare=True),
    Difference(".*", "octets .*size", "BAD_PARAMETER|BAD_PARAM_SIZE", "BAD_PARAMETER|BAD_PARAM_SIZE|SIZE",
               "Part 2, 16: both say what is wrong; authorizations are read as parameters then", rare=True),
    # Authorizations
    Difference("ActivateIdentity", "authorization 1|id_key_handle = 0x40000000", "AUTHFAIL", "AUTH2FAIL",
               "Part 2, 16: TPM_AUTH2FAIL is of the second of two authorizations"),
    Difference("ActivateIdentity", "authorization 2|authorizations exchanged", "AUTH2FAIL", "AUTHFAIL",
               "Part 2, 16: TPM_AUTH2FAIL is of the second of two authorizations"),
    Difference("ExecuteTransport", "authorization 1", "AUTHFAIL", "AUTH2FAIL", "Part 3, 24.2: action 7.c"),
    Difference("NVReadValue", "nv_read_value: .*authorization 1", "AUTHFAIL", "ok",
               "Part 3, 20.4: action 1.c, the TPM may check it before nvLocked is set"),
    # Sessions that a refused command has ended
    Difference(_OF_KEYS, rf"{_PARMS}|: \w+\.(tag|fill) =",
               "(BAD_KEY_PROPERTY|BAD_VERSION|BAD_PARAM_SIZE), then 0 sessions",
               "(BAD_KEY_PROPERTY|BAD_VERSION|BAD_PARAM_SIZE), then [12] sessions", _SESSIONS_END),
    Difference(_OF_KEYS, r": \w+\.pcr_info",
               "(INVALID_PCR_INFO|INVALID_STRUCTURE|BAD_PARAM_SIZE), then 0 sessions",
               "(INVALID_PCR_INFO|INVALID_STRUCTURE|BAD_PARAM_SIZE), then [12] sessions", _SESSIONS_END),
    Difference("Unseal", r"in_data\.tag = ", "BAD_VERSION, then 0 sessions", "BAD_VERSION, then 2 sessions",
               _SESSIONS_END),
    Difference("DelegateCreate(Owner|Key)Delegation", r"permissions\.(delegate_type|per1|per2) = ",
               "BAD_PARAMETER, then 0 sessions", "BAD_PARAMETER, then 1 sessions", _SESSIONS_END),
    Difference("DelegateLoadOwnerDelegation", "blob (zeros|flipped at first|led by zero)",
               "INVALID_STRUCTURE, then 0 sessions", "INVALID_STRUCTURE, then 1 sessions", _SESSIONS_END),
    Difference("ReleaseTransportSigned", "authorization 2", "(BAD_PARAMETER|BAD_PARAM_SIZE), then 1 sessions",
               "(BAD_PARAMETER|BAD_PARAM_SIZE), then 0 sessions",
               "Part 3, 18.2, action 14.a: what cannot be read has used no session"),
    # Administration
    Difference("Startup", "startup_clear: (startup_type|tag|trailing|octets)",
               "(BAD_PARAMETER|BADTAG|BAD_PARAM_SIZE), then .* ?INVALID_POSTINIT.*", ".*ok|.*, then 0 .*",
               "Part 3, 3.2: action 6 is of a command that succeeds"),
    Difference("SetCapability", "cap_area = ", "BAD_PARAMETER", "BAD_MODE", "Part 3, 7.2: action 4"),
    Difference("SetCapability", "octets .*set_value", "BAD_PARAMETER", "ok",
               "Part 2, 2.2.2: a BOOL is TRUE or FALSE", rare=True),
    Difference("SetOrdinalAuditStatus", "ordinal_to_audit = ", "BADINDEX", "BAD_PARAMETER",
               "Part 3, 8.5: action 2"),
    Difference("GetCapability", "capability_4_00000108: owner cleared", "differs in resp", "ok",
               "Part 3, 6.2: action 9.f, allowMaintenance is TRUE where there is maintenance"),
    Difference("GetCapability", "cap_area = 0x1a", "differs in resp", "ok",
               "Part 2, 21.6: TPM_CAP_VERSION_VAL tells whose TPM it is", rare=True),
    # NV storage
    Difference("NVDefineSpace", r"data_size = 0x[0-9a-f]{4,5}\b", "ok", "NOSPACE", "profile: more NV memory"),
    Difference("NVDefineSpace", r"data_size", "NOSPACE", "SIZE", "Part 3, 20.1: action 11.a"),
    Difference("NVReadValue", r"data_size = 0xffffffff", "NOSPACE", "SIZE", "Part 3, 20.4: action 11.b"),
    Difference("NVReadValue(Auth)?|NVWriteValue(Auth)?", "offset = 0xffffffff$", "NOSPACE", "ended",
               "Part 3, 20.2 to 20.5: what is outside the area is TPM_NOSPACE"),
    # Keys
    Difference("LoadKey2?", r"in_key\.pub_key", "AUTHFAIL", "BAD_PARAMETER",
               "Part 3, 10.5: action 6 comes before 7"),
    Difference("Unseal", r"in_data\.seal_info", "NOTSEALED_BLOB", "BAD_PARAM_SIZE|INVALID_PCR_INFO",
               "Part 3, 10.2: action 6 comes before 7"),
    Difference("KeyControlOwner", r"pub_key\.algorithm_parms", "BAD_PARAMETER",
               "BAD_KEY_PROPERTY|BAD_PARAM_SIZE|SIZE|ok",
               "Part 3, 21.1: action 3, a public key that is not that of the handle"),
    Difference("KeyControlOwner", "bit_value = ", "BAD_PARAMETER", "ok",
               "Part 2, 2.2.2: a BOOL is TRUE or FALSE"),
    Difference("ChangeAuthAsymStart", "", "differs in certify_info.parent_pcr_status", "ok",
               "Part 3, 27.4.1: parentPCRStatus is FALSE"),
    Difference("LoadContext", "keep_handle = 0x1", "BAD_HANDLE, then 1 keys", "BAD_HANDLE, then 0 keys",
               "Part 3, 21.3: a command that is refused changes nothing"),
    Difference("LoadContext|LoadAuthContext|LoadKeyContext", "context_blob flipped at last", "BADCONTEXT",
               "DECRYPT_ERROR", "Part 3, 21.3: action 6.e"),
    Difference("Quote2", "add_version = 0x1", "differs in (version_info|sig)", "ok", "profile: the vendor"),
    Difference("TakeOwnership", r"srk_params\.algorithm_parms\.parms flipped at first", "BAD_KEY_PROPERTY",
               "ended", "Part 3, 6.1: action 9, a key of 16 million bits"),
    # Migration
    Difference("CreateMigrationBlob|CMKCreateBlob", r"migration_key_auth\.migration_key\.algorithm_parms",
               "AUTHFAIL", "BAD_KEY_PROPERTY|BAD_PARAM_SIZE|SIZE|ok",
               "Part 3, 11.1 and 11.9: action 5, the digest is over all of migrationKey"),
    Difference("CMKConvertMigration", r"migrated_key\.algorithm_parms", "AUTHFAIL",
               "BAD_KEY_PROPERTY|BAD_PARAM_SIZE|SIZE|ok",
               "Part 3, 11.10: action 6.a, pHash is over all of the public key"),
    Difference("MigrateKey", r"pub_key\.(algorithm_parms\.parms|pub_key)", "BAD_KEY_PROPERTY",
               "ok|BAD_DATASIZE|ENCRYPT_ERROR", "Part 3, 11.4: action 3"),
    Difference("ConvertMigrationBlob|CMKConvertMigration", ": random (zeros|flipped|led by zero)", _RANDOM,
               _RANDOM, "Part 3, 11.2: what is decoded then is random", rare=True),
    # Transport sessions and DAA
    Difference("ExecuteTransport", "wrapped_cmd", "BAD_PARAMETER", "BAD_PARAM_SIZE|BAD_ORDINAL",
               "Part 3, 24.2: action 3"),
    Difference("DAA(Join|Sign)", r"after Startup\(ST_STATE\)", "BAD_HANDLE", "ok",
               "Part 2, 22.5: DAA_stage is 0 after any TPM_Startup"),
)
