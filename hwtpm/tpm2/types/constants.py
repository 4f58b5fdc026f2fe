"""The constants of Part 2, 6 (v185), by their names there.

They are plain integers: reading a module attribute is several times faster than reading a member of an
IntEnum, and so is importing them.  `rc_name` gives the name of a response code for messages.
"""

from __future__ import annotations

from functools import cache
from typing import Final

# 6.1 TPM_SPEC
TPM_SPEC_FAMILY: Final = 0x322E3000
TPM_SPEC_LEVEL: Final = 0
TPM_SPEC_VERSION: Final = 185
TPM_SPEC_YEAR: Final = 0
TPM_SPEC_ERRATA: Final = 0

# 6.2 TPM_CONSTANTS32
TPM_GENERATED_VALUE: Final = 0xFF544347
TPM_MAX_DERIVATION_BITS: Final = 8192

# 6.3 TPM_ALG_ID; ERROR, SHA256_192 and SHAKE256_* have values in the TCG Algorithm Registry only
TPM_ALG_ERROR: Final = 0x0000
TPM_ALG_RSA: Final = 0x0001
TPM_ALG_TDES: Final = 0x0003
TPM_ALG_SHA1: Final = 0x0004
TPM_ALG_HMAC: Final = 0x0005
TPM_ALG_AES: Final = 0x0006
TPM_ALG_MGF1: Final = 0x0007
TPM_ALG_KEYEDHASH: Final = 0x0008
TPM_ALG_XOR: Final = 0x000A
TPM_ALG_SHA256: Final = 0x000B
TPM_ALG_SHA384: Final = 0x000C
TPM_ALG_SHA512: Final = 0x000D
TPM_ALG_SHA256_192: Final = 0x000E
TPM_ALG_NULL: Final = 0x0010
TPM_ALG_SM3_256: Final = 0x0012
TPM_ALG_SM4: Final = 0x0013
TPM_ALG_RSASSA: Final = 0x0014
TPM_ALG_RSAES: Final = 0x0015
TPM_ALG_RSAPSS: Final = 0x0016
TPM_ALG_OAEP: Final = 0x0017
TPM_ALG_ECDSA: Final = 0x0018
TPM_ALG_ECDH: Final = 0x0019
TPM_ALG_ECDAA: Final = 0x001A
TPM_ALG_SM2: Final = 0x001B
TPM_ALG_ECSCHNORR: Final = 0x001C
TPM_ALG_ECMQV: Final = 0x001D
TPM_ALG_HKDF: Final = 0x001F
TPM_ALG_KDF1_SP800_56A: Final = 0x0020
TPM_ALG_KDF2: Final = 0x0021
TPM_ALG_KDF1_SP800_108: Final = 0x0022
TPM_ALG_ECC: Final = 0x0023
TPM_ALG_SYMCIPHER: Final = 0x0025
TPM_ALG_CAMELLIA: Final = 0x0026
TPM_ALG_SHA3_256: Final = 0x0027
TPM_ALG_SHA3_384: Final = 0x0028
TPM_ALG_SHA3_512: Final = 0x0029
TPM_ALG_SHAKE256_192: Final = 0x002C
TPM_ALG_SHAKE256_256: Final = 0x002D
TPM_ALG_SHAKE256_512: Final = 0x002E
TPM_ALG_CMAC: Final = 0x003F
TPM_ALG_CTR: Final = 0x0040
TPM_ALG_OFB: Final = 0x0041
TPM_ALG_CBC: Final = 0x0042
TPM_ALG_CFB: Final = 0x0043
TPM_ALG_ECB: Final = 0x0044
TPM_ALG_EDDSA: Final = 0x0060
TPM_ALG_HASH_EDDSA: Final = 0x0061
TPM_ALG_MLKEM: Final = 0x00A0
TPM_ALG_MLDSA: Final = 0x00A1
TPM_ALG_HASH_MLDSA: Final = 0x00A2

# 6.4 TPM_ECC_CURVE
TPM_ECC_NONE: Final = 0x0000
TPM_ECC_NIST_P192: Final = 0x0001
TPM_ECC_NIST_P224: Final = 0x0002
TPM_ECC_NIST_P256: Final = 0x0003
TPM_ECC_NIST_P384: Final = 0x0004
TPM_ECC_NIST_P521: Final = 0x0005
TPM_ECC_BN_P256: Final = 0x0010
TPM_ECC_BN_P638: Final = 0x0011
TPM_ECC_SM2_P256: Final = 0x0020
TPM_ECC_BP_P256_R1: Final = 0x0030
TPM_ECC_BP_P384_R1: Final = 0x0031
TPM_ECC_BP_P512_R1: Final = 0x0032
TPM_ECC_CURVE_25519: Final = 0x0040
TPM_ECC_CURVE_448: Final = 0x0041

# 6.5.2 TPM_CC
TPM_CC_NV_UndefineSpaceSpecial: Final = 0x11F
TPM_CC_EvictControl: Final = 0x120
TPM_CC_HierarchyControl: Final = 0x121
TPM_CC_NV_UndefineSpace: Final = 0x122
TPM_CC_ChangeEPS: Final = 0x124
TPM_CC_ChangePPS: Final = 0x125
TPM_CC_Clear: Final = 0x126
TPM_CC_ClearControl: Final = 0x127
TPM_CC_ClockSet: Final = 0x128
TPM_CC_HierarchyChangeAuth: Final = 0x129
TPM_CC_NV_DefineSpace: Final = 0x12A
TPM_CC_PCR_Allocate: Final = 0x12B
TPM_CC_PCR_SetAuthPolicy: Final = 0x12C
TPM_CC_PP_Commands: Final = 0x12D
TPM_CC_SetPrimaryPolicy: Final = 0x12E
TPM_CC_FieldUpgradeStart: Final = 0x12F
TPM_CC_ClockRateAdjust: Final = 0x130
TPM_CC_CreatePrimary: Final = 0x131
TPM_CC_NV_GlobalWriteLock: Final = 0x132
TPM_CC_GetCommandAuditDigest: Final = 0x133
TPM_CC_NV_Increment: Final = 0x134
TPM_CC_NV_SetBits: Final = 0x135
TPM_CC_NV_Extend: Final = 0x136
TPM_CC_NV_Write: Final = 0x137
TPM_CC_NV_WriteLock: Final = 0x138
TPM_CC_DictionaryAttackLockReset: Final = 0x139
TPM_CC_DictionaryAttackParameters: Final = 0x13A
TPM_CC_NV_ChangeAuth: Final = 0x13B
TPM_CC_PCR_Event: Final = 0x13C
TPM_CC_PCR_Reset: Final = 0x13D
TPM_CC_SequenceComplete: Final = 0x13E
TPM_CC_SetAlgorithmSet: Final = 0x13F
TPM_CC_SetCommandCodeAuditStatus: Final = 0x140
TPM_CC_FieldUpgradeData: Final = 0x141
TPM_CC_IncrementalSelfTest: Final = 0x142
TPM_CC_SelfTest: Final = 0x143
TPM_CC_Startup: Final = 0x144
TPM_CC_Shutdown: Final = 0x145
TPM_CC_StirRandom: Final = 0x146
TPM_CC_ActivateCredential: Final = 0x147
TPM_CC_Certify: Final = 0x148
TPM_CC_PolicyNV: Final = 0x149
TPM_CC_CertifyCreation: Final = 0x14A
TPM_CC_Duplicate: Final = 0x14B
TPM_CC_GetTime: Final = 0x14C
TPM_CC_GetSessionAuditDigest: Final = 0x14D
TPM_CC_NV_Read: Final = 0x14E
TPM_CC_NV_ReadLock: Final = 0x14F
TPM_CC_ObjectChangeAuth: Final = 0x150
TPM_CC_PolicySecret: Final = 0x151
TPM_CC_Rewrap: Final = 0x152
TPM_CC_Create: Final = 0x153
TPM_CC_ECDH_ZGen: Final = 0x154
TPM_CC_HMAC: Final = 0x155
TPM_CC_MAC: Final = 0x155
TPM_CC_Import: Final = 0x156
TPM_CC_Load: Final = 0x157
TPM_CC_Quote: Final = 0x158
TPM_CC_RSA_Decrypt: Final = 0x159
TPM_CC_HMAC_Start: Final = 0x15B
TPM_CC_MAC_Start: Final = 0x15B
TPM_CC_SequenceUpdate: Final = 0x15C
TPM_CC_Sign: Final = 0x15D
TPM_CC_Unseal: Final = 0x15E
TPM_CC_PolicySigned: Final = 0x160
TPM_CC_ContextLoad: Final = 0x161
TPM_CC_ContextSave: Final = 0x162
TPM_CC_ECDH_KeyGen: Final = 0x163
TPM_CC_EncryptDecrypt: Final = 0x164
TPM_CC_FlushContext: Final = 0x165
TPM_CC_LoadExternal: Final = 0x167
TPM_CC_MakeCredential: Final = 0x168
TPM_CC_NV_ReadPublic: Final = 0x169
TPM_CC_PolicyAuthorize: Final = 0x16A
TPM_CC_PolicyAuthValue: Final = 0x16B
TPM_CC_PolicyCommandCode: Final = 0x16C
TPM_CC_PolicyCounterTimer: Final = 0x16D
TPM_CC_PolicyCpHash: Final = 0x16E
TPM_CC_PolicyLocality: Final = 0x16F
TPM_CC_PolicyNameHash: Final = 0x170
TPM_CC_PolicyOR: Final = 0x171
TPM_CC_PolicyTicket: Final = 0x172
TPM_CC_ReadPublic: Final = 0x173
TPM_CC_RSA_Encrypt: Final = 0x174
TPM_CC_StartAuthSession: Final = 0x176
TPM_CC_VerifySignature: Final = 0x177
TPM_CC_ECC_Parameters: Final = 0x178
TPM_CC_FirmwareRead: Final = 0x179
TPM_CC_GetCapability: Final = 0x17A
TPM_CC_GetRandom: Final = 0x17B
TPM_CC_GetTestResult: Final = 0x17C
TPM_CC_Hash: Final = 0x17D
TPM_CC_PCR_Read: Final = 0x17E
TPM_CC_PolicyPCR: Final = 0x17F
TPM_CC_PolicyRestart: Final = 0x180
TPM_CC_ReadClock: Final = 0x181
TPM_CC_PCR_Extend: Final = 0x182
TPM_CC_PCR_SetAuthValue: Final = 0x183
TPM_CC_NV_Certify: Final = 0x184
TPM_CC_EventSequenceComplete: Final = 0x185
TPM_CC_HashSequenceStart: Final = 0x186
TPM_CC_PolicyPhysicalPresence: Final = 0x187
TPM_CC_PolicyDuplicationSelect: Final = 0x188
TPM_CC_PolicyGetDigest: Final = 0x189
TPM_CC_TestParms: Final = 0x18A
TPM_CC_Commit: Final = 0x18B
TPM_CC_PolicyPassword: Final = 0x18C
TPM_CC_ZGen_2Phase: Final = 0x18D
TPM_CC_EC_Ephemeral: Final = 0x18E
TPM_CC_PolicyNvWritten: Final = 0x18F
TPM_CC_PolicyTemplate: Final = 0x190
TPM_CC_CreateLoaded: Final = 0x191
TPM_CC_PolicyAuthorizeNV: Final = 0x192
TPM_CC_EncryptDecrypt2: Final = 0x193
TPM_CC_AC_GetCapability: Final = 0x194
TPM_CC_AC_Send: Final = 0x195
TPM_CC_Policy_AC_SendSelect: Final = 0x196
TPM_CC_CertifyX509: Final = 0x197
TPM_CC_ACT_SetTimeout: Final = 0x198
TPM_CC_ECC_Encrypt: Final = 0x199
TPM_CC_ECC_Decrypt: Final = 0x19A
TPM_CC_PolicyCapability: Final = 0x19B
TPM_CC_PolicyParameters: Final = 0x19C
TPM_CC_NV_DefineSpace2: Final = 0x19D
TPM_CC_NV_ReadPublic2: Final = 0x19E
TPM_CC_SetCapability: Final = 0x19F
TPM_CC_ReadOnlyControl: Final = 0x1A0
TPM_CC_PolicyTransportSPDM: Final = 0x1A1
TPM_CC_VerifySequenceComplete: Final = 0x1A3
TPM_CC_SignSequenceComplete: Final = 0x1A4
TPM_CC_VerifyDigestSignature: Final = 0x1A5
TPM_CC_SignDigest: Final = 0x1A6
TPM_CC_Encapsulate: Final = 0x1A7
TPM_CC_Decapsulate: Final = 0x1A8
TPM_CC_VerifySequenceStart: Final = 0x1A9
TPM_CC_SignSequenceStart: Final = 0x1AA
TPM_CC_Vendor_TCG_Test: Final = 0x20000000
CC_VEND: Final = 0x20000000  # V of Part 2, 6.5.1: the command is vendor-specific
# What Xen's virtual TPMs have for TPM 1.2 (stubdom/vtpm-deepquote.patch, vtpm-parent-sign-ek.patch), with the
# numbers of its ordinals.
CC_DeepQuote: Final = CC_VEND | 0x16
CC_ParentSignEK: Final = CC_VEND | 0x7C
TPM_CC_FIRST: Final = 0x11F
TPM_CC_LAST: Final = 0x1AA

# 6.6.3 TPM_RC: success and the code that a TPM 1.2 would understand
TPM_RC_SUCCESS: Final = 0x000
TPM_RC_BAD_TAG: Final = 0x01E

# 6.6.3 TPM_RC: format zero, errors
RC_VER1: Final = 0x100
TPM_RC_INITIALIZE: Final = 0x100
TPM_RC_FAILURE: Final = 0x101
TPM_RC_SEQUENCE: Final = 0x103
TPM_RC_PRIVATE: Final = 0x10B
TPM_RC_HMAC: Final = 0x119
TPM_RC_DISABLED: Final = 0x120
TPM_RC_EXCLUSIVE: Final = 0x121
TPM_RC_AUTH_TYPE: Final = 0x124
TPM_RC_AUTH_MISSING: Final = 0x125
TPM_RC_POLICY: Final = 0x126
TPM_RC_PCR: Final = 0x127
TPM_RC_PCR_CHANGED: Final = 0x128
TPM_RC_UPGRADE: Final = 0x12D
TPM_RC_TOO_MANY_CONTEXTS: Final = 0x12E
TPM_RC_AUTH_UNAVAILABLE: Final = 0x12F
TPM_RC_REBOOT: Final = 0x130
TPM_RC_UNBALANCED: Final = 0x131
TPM_RC_COMMAND_SIZE: Final = 0x142
TPM_RC_COMMAND_CODE: Final = 0x143
TPM_RC_AUTHSIZE: Final = 0x144
TPM_RC_AUTH_CONTEXT: Final = 0x145
TPM_RC_NV_RANGE: Final = 0x146
TPM_RC_NV_SIZE: Final = 0x147
TPM_RC_NV_LOCKED: Final = 0x148
TPM_RC_NV_AUTHORIZATION: Final = 0x149
TPM_RC_NV_UNINITIALIZED: Final = 0x14A
TPM_RC_NV_SPACE: Final = 0x14B
TPM_RC_NV_DEFINED: Final = 0x14C
TPM_RC_BAD_CONTEXT: Final = 0x150
TPM_RC_CPHASH: Final = 0x151
TPM_RC_PARENT: Final = 0x152
TPM_RC_NEEDS_TEST: Final = 0x153
TPM_RC_NO_RESULT: Final = 0x154
TPM_RC_SENSITIVE: Final = 0x155
TPM_RC_READ_ONLY: Final = 0x156
RC_MAX_FM0: Final = 0x17F

# 6.6.3 TPM_RC: format one, which takes the number of a parameter, handle or session
RC_FMT1: Final = 0x080
TPM_RC_ASYMMETRIC: Final = 0x081
TPM_RC_ATTRIBUTES: Final = 0x082
TPM_RC_HASH: Final = 0x083
TPM_RC_VALUE: Final = 0x084
TPM_RC_HIERARCHY: Final = 0x085
TPM_RC_KEY_SIZE: Final = 0x087
TPM_RC_MGF: Final = 0x088
TPM_RC_MODE: Final = 0x089
TPM_RC_TYPE: Final = 0x08A
TPM_RC_HANDLE: Final = 0x08B
TPM_RC_KDF: Final = 0x08C
TPM_RC_RANGE: Final = 0x08D
TPM_RC_AUTH_FAIL: Final = 0x08E
TPM_RC_NONCE: Final = 0x08F
TPM_RC_PP: Final = 0x090
TPM_RC_SCHEME: Final = 0x092
TPM_RC_SIZE: Final = 0x095
TPM_RC_SYMMETRIC: Final = 0x096
TPM_RC_TAG: Final = 0x097
TPM_RC_SELECTOR: Final = 0x098
TPM_RC_INSUFFICIENT: Final = 0x09A
TPM_RC_SIGNATURE: Final = 0x09B
TPM_RC_KEY: Final = 0x09C
TPM_RC_POLICY_FAIL: Final = 0x09D
TPM_RC_INTEGRITY: Final = 0x09F
TPM_RC_TICKET: Final = 0x0A0
TPM_RC_RESERVED_BITS: Final = 0x0A1
TPM_RC_BAD_AUTH: Final = 0x0A2
TPM_RC_EXPIRED: Final = 0x0A3
TPM_RC_POLICY_CC: Final = 0x0A4
TPM_RC_BINDING: Final = 0x0A5
TPM_RC_CURVE: Final = 0x0A6
TPM_RC_ECC_POINT: Final = 0x0A7
TPM_RC_FW_LIMITED: Final = 0x0A8
TPM_RC_SVN_LIMITED: Final = 0x0A9
TPM_RC_PARMS: Final = 0x0AA
TPM_RC_EXT_MU: Final = 0x0AB
TPM_RC_ONE_SHOT_SIGNATURE: Final = 0x0AC
TPM_RC_SIGN_CONTEXT_KEY: Final = 0x0AD
TPM_RC_CHANNEL: Final = 0x0B0
TPM_RC_CHANNEL_KEY: Final = 0x0B1

# 6.6.3 TPM_RC: format zero, warnings
RC_WARN: Final = 0x900
TPM_RC_CONTEXT_GAP: Final = 0x901
TPM_RC_OBJECT_MEMORY: Final = 0x902
TPM_RC_SESSION_MEMORY: Final = 0x903
TPM_RC_MEMORY: Final = 0x904
TPM_RC_SESSION_HANDLES: Final = 0x905
TPM_RC_OBJECT_HANDLES: Final = 0x906
TPM_RC_LOCALITY: Final = 0x907
TPM_RC_YIELDED: Final = 0x908
TPM_RC_CANCELED: Final = 0x909
TPM_RC_TESTING: Final = 0x90A
TPM_RC_REFERENCE_H0: Final = 0x910
TPM_RC_REFERENCE_H1: Final = 0x911
TPM_RC_REFERENCE_H2: Final = 0x912
TPM_RC_REFERENCE_H3: Final = 0x913
TPM_RC_REFERENCE_H4: Final = 0x914
TPM_RC_REFERENCE_H5: Final = 0x915
TPM_RC_REFERENCE_H6: Final = 0x916
TPM_RC_REFERENCE_S0: Final = 0x918
TPM_RC_REFERENCE_S1: Final = 0x919
TPM_RC_REFERENCE_S2: Final = 0x91A
TPM_RC_REFERENCE_S3: Final = 0x91B
TPM_RC_REFERENCE_S4: Final = 0x91C
TPM_RC_REFERENCE_S5: Final = 0x91D
TPM_RC_REFERENCE_S6: Final = 0x91E
TPM_RC_NV_RATE: Final = 0x920
TPM_RC_LOCKOUT: Final = 0x921
TPM_RC_RETRY: Final = 0x922
TPM_RC_NV_UNAVAILABLE: Final = 0x923
TPM_RC_NOT_USED: Final = 0x97F

# 6.6.3 TPM_RC: what is added to a format-one code
TPM_RC_H: Final = 0x000
TPM_RC_P: Final = 0x040
TPM_RC_S: Final = 0x800
TPM_RC_1: Final = 0x100
TPM_RC_2: Final = 0x200
TPM_RC_3: Final = 0x300
TPM_RC_4: Final = 0x400
TPM_RC_5: Final = 0x500
TPM_RC_6: Final = 0x600
TPM_RC_7: Final = 0x700
TPM_RC_8: Final = 0x800
TPM_RC_9: Final = 0x900
TPM_RC_A: Final = 0xA00
TPM_RC_B: Final = 0xB00
TPM_RC_C: Final = 0xC00
TPM_RC_D: Final = 0xD00
TPM_RC_E: Final = 0xE00
TPM_RC_F: Final = 0xF00
TPM_RC_N_MASK: Final = 0xF00

# 6.7 TPM_CLOCK_ADJUST (INT8)
TPM_CLOCK_COARSE_SLOWER: Final = -3
TPM_CLOCK_MEDIUM_SLOWER: Final = -2
TPM_CLOCK_FINE_SLOWER: Final = -1
TPM_CLOCK_NO_CHANGE: Final = 0
TPM_CLOCK_FINE_FASTER: Final = 1
TPM_CLOCK_MEDIUM_FASTER: Final = 2
TPM_CLOCK_COARSE_FASTER: Final = 3

# 6.8 TPM_EO
TPM_EO_EQ: Final = 0x0
TPM_EO_NEQ: Final = 0x1
TPM_EO_SIGNED_GT: Final = 0x2
TPM_EO_UNSIGNED_GT: Final = 0x3
TPM_EO_SIGNED_LT: Final = 0x4
TPM_EO_UNSIGNED_LT: Final = 0x5
TPM_EO_SIGNED_GE: Final = 0x6
TPM_EO_UNSIGNED_GE: Final = 0x7
TPM_EO_SIGNED_LE: Final = 0x8
TPM_EO_UNSIGNED_LE: Final = 0x9
TPM_EO_BITSET: Final = 0xA
TPM_EO_BITCLEAR: Final = 0xB

# 6.9 TPM_ST
TPM_ST_RSP_COMMAND: Final = 0x00C4
TPM_ST_NULL: Final = 0x8000
TPM_ST_NO_SESSIONS: Final = 0x8001
TPM_ST_SESSIONS: Final = 0x8002
TPM_ST_ATTEST_NV: Final = 0x8014
TPM_ST_ATTEST_COMMAND_AUDIT: Final = 0x8015
TPM_ST_ATTEST_SESSION_AUDIT: Final = 0x8016
TPM_ST_ATTEST_CERTIFY: Final = 0x8017
TPM_ST_ATTEST_QUOTE: Final = 0x8018
TPM_ST_ATTEST_TIME: Final = 0x8019
TPM_ST_ATTEST_CREATION: Final = 0x801A
TPM_ST_ATTEST_NV_DIGEST: Final = 0x801C
TPM_ST_CREATION: Final = 0x8021
TPM_ST_VERIFIED: Final = 0x8022
TPM_ST_AUTH_SECRET: Final = 0x8023
TPM_ST_HASHCHECK: Final = 0x8024
TPM_ST_AUTH_SIGNED: Final = 0x8025
TPM_ST_MESSAGE_VERIFIED: Final = 0x8026
TPM_ST_DIGEST_VERIFIED: Final = 0x8027
TPM_ST_FU_MANIFEST: Final = 0x8029

# 6.10 TPM_SU
TPM_SU_CLEAR: Final = 0x0000
TPM_SU_STATE: Final = 0x0001

# 6.11 TPM_SE
TPM_SE_HMAC: Final = 0x00
TPM_SE_POLICY: Final = 0x01
TPM_SE_TRIAL: Final = 0x03

# 6.12 TPM_CAP
TPM_CAP_FIRST: Final = 0x0
TPM_CAP_ALGS: Final = 0x0
TPM_CAP_HANDLES: Final = 0x1
TPM_CAP_COMMANDS: Final = 0x2
TPM_CAP_PP_COMMANDS: Final = 0x3
TPM_CAP_AUDIT_COMMANDS: Final = 0x4
TPM_CAP_PCRS: Final = 0x5
TPM_CAP_TPM_PROPERTIES: Final = 0x6
TPM_CAP_PCR_PROPERTIES: Final = 0x7
TPM_CAP_ECC_CURVES: Final = 0x8
TPM_CAP_AUTH_POLICIES: Final = 0x9
TPM_CAP_ACT: Final = 0xA
TPM_CAP_PUB_KEYS: Final = 0xB
TPM_CAP_SPDM_SESSION_INFO: Final = 0xC
TPM_CAP_LAST: Final = 0xC
TPM_CAP_VENDOR_PROPERTY: Final = 0x100

# 6.13 TPM_PT
TPM_PT_NONE: Final = 0x000
PT_GROUP: Final = 0x100
PT_FIXED: Final = 0x100
TPM_PT_FAMILY_INDICATOR: Final = 0x100
TPM_PT_LEVEL: Final = 0x101
TPM_PT_REVISION: Final = 0x102
TPM_PT_ERRATA: Final = 0x103
TPM_PT_YEAR: Final = 0x104
TPM_PT_MANUFACTURER: Final = 0x105
TPM_PT_VENDOR_STRING_1: Final = 0x106
TPM_PT_VENDOR_STRING_2: Final = 0x107
TPM_PT_VENDOR_STRING_3: Final = 0x108
TPM_PT_VENDOR_STRING_4: Final = 0x109
TPM_PT_VENDOR_TPM_TYPE: Final = 0x10A
TPM_PT_FIRMWARE_VERSION_1: Final = 0x10B
TPM_PT_FIRMWARE_VERSION_2: Final = 0x10C
TPM_PT_INPUT_BUFFER: Final = 0x10D
TPM_PT_HR_TRANSIENT_MIN: Final = 0x10E
TPM_PT_HR_PERSISTENT_MIN: Final = 0x10F
TPM_PT_HR_LOADED_MIN: Final = 0x110
TPM_PT_ACTIVE_SESSIONS_MAX: Final = 0x111
TPM_PT_PCR_COUNT: Final = 0x112
TPM_PT_PCR_SELECT_MIN: Final = 0x113
TPM_PT_CONTEXT_GAP_MAX: Final = 0x114
TPM_PT_NV_COUNTERS_MAX: Final = 0x116
TPM_PT_NV_INDEX_MAX: Final = 0x117
TPM_PT_MEMORY: Final = 0x118
TPM_PT_CLOCK_UPDATE: Final = 0x119
TPM_PT_CONTEXT_HASH: Final = 0x11A
TPM_PT_CONTEXT_SYM: Final = 0x11B
TPM_PT_CONTEXT_SYM_SIZE: Final = 0x11C
TPM_PT_ORDERLY_COUNT: Final = 0x11D
TPM_PT_MAX_COMMAND_SIZE: Final = 0x11E
TPM_PT_MAX_RESPONSE_SIZE: Final = 0x11F
TPM_PT_MAX_DIGEST: Final = 0x120
TPM_PT_MAX_OBJECT_CONTEXT: Final = 0x121
TPM_PT_MAX_SESSION_CONTEXT: Final = 0x122
TPM_PT_PS_FAMILY_INDICATOR: Final = 0x123
TPM_PT_PS_LEVEL: Final = 0x124
TPM_PT_PS_REVISION: Final = 0x125
TPM_PT_PS_DAY_OF_YEAR: Final = 0x126
TPM_PT_PS_YEAR: Final = 0x127
TPM_PT_SPLIT_MAX: Final = 0x128
TPM_PT_TOTAL_COMMANDS: Final = 0x129
TPM_PT_LIBRARY_COMMANDS: Final = 0x12A
TPM_PT_VENDOR_COMMANDS: Final = 0x12B
TPM_PT_NV_BUFFER_MAX: Final = 0x12C
TPM_PT_MODES: Final = 0x12D
TPM_PT_MAX_CAP_BUFFER: Final = 0x12E
TPM_PT_FIRMWARE_SVN: Final = 0x12F
TPM_PT_FIRMWARE_MAX_SVN: Final = 0x130
TPM_PT_ML_PARAMETER_SETS: Final = 0x131
PT_VAR: Final = 0x200
TPM_PT_PERMANENT: Final = 0x200
TPM_PT_STARTUP_CLEAR: Final = 0x201
TPM_PT_HR_NV_INDEX: Final = 0x202
TPM_PT_HR_LOADED: Final = 0x203
TPM_PT_HR_LOADED_AVAIL: Final = 0x204
TPM_PT_HR_ACTIVE: Final = 0x205
TPM_PT_HR_ACTIVE_AVAIL: Final = 0x206
TPM_PT_HR_TRANSIENT_AVAIL: Final = 0x207
TPM_PT_HR_PERSISTENT: Final = 0x208
TPM_PT_HR_PERSISTENT_AVAIL: Final = 0x209
TPM_PT_NV_COUNTERS: Final = 0x20A
TPM_PT_NV_COUNTERS_AVAIL: Final = 0x20B
TPM_PT_ALGORITHM_SET: Final = 0x20C
TPM_PT_LOADED_CURVES: Final = 0x20D
TPM_PT_LOCKOUT_COUNTER: Final = 0x20E
TPM_PT_MAX_AUTH_FAIL: Final = 0x20F
TPM_PT_LOCKOUT_INTERVAL: Final = 0x210
TPM_PT_LOCKOUT_RECOVERY: Final = 0x211
TPM_PT_NV_WRITE_RECOVERY: Final = 0x212
TPM_PT_AUDIT_COUNTER_0: Final = 0x213
TPM_PT_AUDIT_COUNTER_1: Final = 0x214

# 6.14 TPM_PT_PCR
TPM_PT_PCR_FIRST: Final = 0x00
TPM_PT_PCR_SAVE: Final = 0x00
TPM_PT_PCR_EXTEND_L0: Final = 0x01
TPM_PT_PCR_RESET_L0: Final = 0x02
TPM_PT_PCR_EXTEND_L1: Final = 0x03
TPM_PT_PCR_RESET_L1: Final = 0x04
TPM_PT_PCR_EXTEND_L2: Final = 0x05
TPM_PT_PCR_RESET_L2: Final = 0x06
TPM_PT_PCR_EXTEND_L3: Final = 0x07
TPM_PT_PCR_RESET_L3: Final = 0x08
TPM_PT_PCR_EXTEND_L4: Final = 0x09
TPM_PT_PCR_RESET_L4: Final = 0x0A
TPM_PT_PCR_NO_INCREMENT: Final = 0x11
TPM_PT_PCR_DRTM_RESET: Final = 0x12
TPM_PT_PCR_POLICY: Final = 0x13
TPM_PT_PCR_AUTH: Final = 0x14
TPM_PT_PCR_LAST: Final = 0x14

# 6.15 TPM_PS
TPM_PS_MAIN: Final = 0x0
TPM_PS_PC: Final = 0x1
TPM_PS_PDA: Final = 0x2
TPM_PS_CELL_PHONE: Final = 0x3
TPM_PS_SERVER: Final = 0x4
TPM_PS_PERIPHERAL: Final = 0x5
TPM_PS_TSS: Final = 0x6
TPM_PS_STORAGE: Final = 0x7
TPM_PS_AUTHENTICATION: Final = 0x8
TPM_PS_EMBEDDED: Final = 0x9
TPM_PS_HARDCOPY: Final = 0xA
TPM_PS_INFRASTRUCTURE: Final = 0xB
TPM_PS_VIRTUALIZATION: Final = 0xC
TPM_PS_TNC: Final = 0xD
TPM_PS_MULTI_TENANT: Final = 0xE
TPM_PS_TC: Final = 0xF

# 6.16 TPM_PUB_KEY
TPM_PUB_KEY_TPM_SPDM_00: Final = 0x00
TPM_PUB_KEY_TPM_SPDM_FF: Final = 0xFF

@cache
def _rc_names() -> dict[int, str]:
    addends = {"TPM_RC_H", "TPM_RC_P", "TPM_RC_S", "TPM_RC_N_MASK"} | {f"TPM_RC_{n:X}" for n in range(1, 16)}
    return {value: name for name, value in globals().items()
            if name.startswith("TPM_RC_") and name not in addends}


def rc_name(rc: int) -> str:
    """Return the name of response code *rc*, and of a format-one code what its number refers to.

    For example ``TPM_RC_VALUE (parameter 1)`` for 0x1C4.  A code without a name comes back in hexadecimal.
    """
    known = _rc_names()
    if not rc & RC_FMT1:
        return known.get(rc, f"TPM_RC 0x{rc:03x}")
    name = known.get(rc & 0x0BF)
    if name is None or rc > 0xFFF:
        return f"TPM_RC 0x{rc:03x}"
    number = rc >> 8 & 0xF
    if rc & TPM_RC_P:
        return f"{name} (parameter {number})"
    if number & 8:
        return f"{name} (session {number & 7})"
    return f"{name} (handle {number})" if number else name
