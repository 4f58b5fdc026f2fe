"""TCG algorithm and curve identifiers that this package gives a meaning (Part 2, 6.3 and 6.4)."""

from __future__ import annotations

from typing import Final

TDES: Final = 0x0003
SHA1: Final = 0x0004
AES: Final = 0x0006
SHA256: Final = 0x000B
SHA384: Final = 0x000C
SHA512: Final = 0x000D
SM3_256: Final = 0x0012
CAMELLIA: Final = 0x0026
SHA3_256: Final = 0x0027
SHA3_384: Final = 0x0028
SHA3_512: Final = 0x0029
CMAC: Final = 0x003F

CTR: Final = 0x0040
OFB: Final = 0x0041
CBC: Final = 0x0042
CFB: Final = 0x0043
ECB: Final = 0x0044

NIST_P192: Final = 0x0001
NIST_P224: Final = 0x0002
NIST_P256: Final = 0x0003
NIST_P384: Final = 0x0004
NIST_P521: Final = 0x0005
BN_P256: Final = 0x0010
BN_P638: Final = 0x0011
SM2_P256: Final = 0x0020
