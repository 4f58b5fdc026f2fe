"""What this TPM implements: limits, algorithms and identity (the implementation-specific values of Part 2).

Everything here is a choice of ours, by the names that Part 2 uses in its tables.  Interface types accept
exactly the algorithms of these sets, so an algorithm is added by extending its set (and the union arms and
commands that need to know it).  Sizes are octets, times seconds, unless a name or comment says otherwise.
"""

from __future__ import annotations

from typing import Final

from hwtpm.crypto import hashes, ids

# Algorithms.

# SHA-1, SHA-2, SHA-3, and SM3 where the OpenSSL underneath has it.
HASHES: Final = frozenset(hashes.ALGORITHMS)
DIGEST_SIZE: Final = {alg: hashes.size(alg) for alg in hashes.ALGORITHMS}
MAX_DIGEST_SIZE: Final = 64
HASH_COUNT: Final = len(HASHES)
# The banks that a new TPM has, in the order of TPM_CAP_PCRS.  TPM2_PCR_Allocate makes others, of any hash.
PCR_BANKS: Final = (ids.SHA1, ids.SHA256, ids.SHA384, ids.SHA512)

# What TPM2_SetAlgorithmSet leaves out, by bit of its number.  Other bits mean nothing.
ALGORITHM_SETS: Final = {1: frozenset({ids.SHA3_256, ids.SHA3_384, ids.SHA3_512})}

SYMMETRIC: Final = frozenset({ids.TDES, ids.AES, ids.CAMELLIA})  # block ciphers
SYM_MODES: Final = frozenset({ids.CTR, ids.OFB, ids.CBC, ids.CFB, ids.ECB})
MAC_SCHEMES: Final = frozenset({ids.CMAC})  # of block ciphers
AES_KEY_BITS: Final = frozenset({128, 192, 256})
CAMELLIA_KEY_BITS: Final = frozenset({128, 192, 256})
TDES_KEY_BITS: Final = frozenset({128, 192})  # parity included
MAX_SYM_KEY_BYTES: Final = 32
MAX_SYM_BLOCK_SIZE: Final = 16
MAX_SYM_DATA: Final = 128  # of a sealed data object (Part 2, 11.1.13)

ASYMMETRIC: Final = frozenset({0x0001, 0x0023})  # TPM_ALG_RSA, TPM_ALG_ECC
RSA_KEY_BITS: Final = frozenset({1024, 2048, 3072, 4096})
MAX_RSA_KEY_BITS: Final = 4096
MAX_RSA_KEY_BYTES: Final = MAX_RSA_KEY_BITS // 8
RSA_DEFAULT_PUBLIC_EXPONENT: Final = 65537
ECC_CURVES: Final = (ids.NIST_P192, ids.NIST_P224, ids.NIST_P256, ids.NIST_P384, ids.NIST_P521,
                     ids.BN_P256, ids.BN_P638, ids.SM2_P256)
MAX_ECC_KEY_BYTES: Final = 80
# TPM_ALG_RSASSA, RSAPSS, RSAES, OAEP.
RSA_SIGNING_SCHEMES: Final = frozenset({0x0014, 0x0016})
RSA_ENCRYPTION_SCHEMES: Final = frozenset({0x0015, 0x0017})
# TPM_ALG_ECDSA, ECDAA, SM2, ECSCHNORR; TPM_ALG_ECDH, SM2, ECMQV.
ECC_SIGNING_SCHEMES: Final = frozenset({0x0018, 0x001A, 0x001B, 0x001C})
ECC_KEY_EXCHANGES: Final = frozenset({0x0019, 0x001B, 0x001D})
# TPM_ALG_MGF1, KDF1_SP800_56A, KDF2, KDF1_SP800_108.
KDFS: Final = frozenset({0x0007, 0x0020, 0x0021, 0x0022})

# PCRs.

IMPLEMENTATION_PCR: Final = 24
PCR_SELECT_MIN: Final = 3
PCR_SELECT_MAX: Final = 3
HCRTM_PCR: Final = 0
DRTM_PCR: Final = 17

# Objects and sessions.  A TPM without a resource manager in front holds more than the three of each that
# hardware offers; nothing depends on the low limit.

MAX_LOADED_OBJECTS: Final = 16
MAX_LOADED_SESSIONS: Final = 16
MAX_ACTIVE_SESSIONS: Final = 64
MIN_EVICT_OBJECTS: Final = 7  # the PC Client profile asks for 7 persistent objects
MAX_EVICT_OBJECTS: Final = 80
CONTEXT_GAP_MAX: Final = 0xFFFF
MAX_CONTEXT_SIZE: Final = 3600  # of a context blob, so that a ContextLoad fits into MAX_COMMAND_SIZE

# Buffers.

MAX_COMMAND_SIZE: Final = 4096
MAX_RESPONSE_SIZE: Final = 4096
MAX_DIGEST_BUFFER: Final = 1024
MAX_NV_BUFFER_SIZE: Final = 1024
MAX_CAP_BUFFER: Final = 1024
MAX_ALG_LIST_SIZE: Final = 64
LABEL_MAX_BUFFER: Final = 32  # of a label or context in derivation (Part 2, 11.1.10)
MAX_CAP_DATA: Final = MAX_CAP_BUFFER - 4 - 4  # without the capability and the count
MAX_CAP_ALGS: Final = MAX_CAP_DATA // 6
MAX_CAP_HANDLES: Final = MAX_CAP_DATA // 4
MAX_CAP_CC: Final = MAX_CAP_DATA // 4
MAX_TPM_PROPERTIES: Final = MAX_CAP_DATA // 8
MAX_PCR_PROPERTIES: Final = MAX_CAP_DATA // (4 + 1 + PCR_SELECT_MAX)
MAX_ECC_CURVES: Final = MAX_CAP_DATA // 2
MAX_TAGGED_POLICIES: Final = MAX_CAP_DATA // (4 + 2 + MAX_DIGEST_SIZE)
MAX_ACT_DATA: Final = MAX_CAP_DATA // 12
MAX_AC_CAPABILITIES: Final = MAX_CAP_DATA // 8
MAX_SPDM_SESSION_INFO: Final = MAX_CAP_DATA // (2 * (2 + 2 + MAX_DIGEST_SIZE))
MAX_VENDOR_PROPERTY: Final = MAX_CAP_DATA // (2 + 512)

# NV memory.

MAX_NV_INDEX_SIZE: Final = 2048
NV_INDEX_SPACE: Final = 176 * 1024  # for the records of all indices; persistent objects have room besides
RAM_INDEX_SPACE: Final = 4096  # orderly indices, which live in RAM until the next shutdown
NV_COUNTERS_MAX: Final = 0  # no limit of its own

# Secrets.

PRIMARY_SEED_SIZE: Final = 64
PROOF_SIZE: Final = 64
CONTEXT_INTEGRITY_HASH_ALG: Final = ids.SHA512
CONTEXT_INTEGRITY_HASH_SIZE: Final = 64
CONTEXT_ENCRYPT_ALG: Final = ids.AES
CONTEXT_ENCRYPT_KEY_BITS: Final = 256
CONTEXT_ENCRYPT_KEY_BYTES: Final = 32

# Time.

ACT_COUNT: Final = 2  # authenticated countdown timers
NV_CLOCK_UPDATE_INTERVAL: Final = 12  # Clock is written to NV each 2**12 ms
CLOCK_UPDATE_MS: Final = 1 << NV_CLOCK_UPDATE_INTERVAL
ORDERLY_BITS: Final = 8
MAX_ORDERLY_COUNT: Final = (1 << ORDERLY_BITS) - 1  # an orderly counter reaches NV every 256 increments

# Dictionary attack protection after TPM2_Clear and of a new TPM.  These are swtpm's values, so that scripts
# that count failures behave alike.
DA_MAX_TRIES: Final = 3
DA_RECOVERY_TIME: Final = 1000
DA_LOCKOUT_RECOVERY: Final = 1000

# ECC commit: the number of TPM2_Commit results that can be open, a power of two.
SPLIT_MAX: Final = 128

# Identity.

MANUFACTURER: Final = int.from_bytes(b"CUSE", "big")
VENDOR_STRINGS: Final = (int.from_bytes(b"cuse", "big"), int.from_bytes(b"tpm\0", "big"), 0, 0)
VENDOR_TPM_TYPE: Final = 1
FIRMWARE_VERSION_1: Final = 0x00000001  # major 0, minor 1: the release of this package
FIRMWARE_VERSION_2: Final = 0x00000000  # patch
SPEC_FAMILY: Final = 0x322E3000  # "2.0"
SPEC_LEVEL: Final = 0
SPEC_VERSION: Final = 185
SPEC_ERRATA: Final = 0
SPEC_YEAR: Final = 0  # zero since version 185 (Part 2, 6.1)
PS_FAMILY_INDICATOR: Final = 1  # TPM_PS_PC; tools that look at it expect a PC Client TPM
PS_LEVEL: Final = 0
PS_REVISION: Final = 0  # no revision of the PC Client profile is claimed
PS_DAY_OF_YEAR: Final = 0
PS_YEAR: Final = 0
MEMORY_ATTRIBUTES: Final = 0x6  # TPMA_MEMORY: shared NV, persistent objects are copied to RAM
MODES: Final = 0  # TPMA_MODES: no FIPS claim
