"""The TIS register map: where each register of a locality's page is and what its bits are called.

Names follow the PC Client Platform TPM Profile (FIFO interface) and, for TPM 1.2, the PC Client TIS 1.3.
Registers are little-endian; offsets count octets from the start of a locality's page.
"""

from __future__ import annotations

from typing import Final

TIS_BASE: Final = 0xFED40000
"""Physical address of locality 0's page."""
TIS_PAGE: Final = 0x1000
"""Octets from one locality's page to the next."""
TIS_LOCALITIES: Final = 5
TIS_SIZE: Final = TIS_PAGE * TIS_LOCALITIES
TIS_BUFFER_SIZE: Final = 4096
"""Octets of the longest command and of the longest response."""

# Registers.
TPM_ACCESS: Final = 0x00  # 1 octet
TPM_INT_ENABLE: Final = 0x08  # 4 octets
TPM_INT_VECTOR: Final = 0x0C  # 1 octet
TPM_INT_STATUS: Final = 0x10  # 4 octets
TPM_INTF_CAPABILITY: Final = 0x14  # 4 octets
TPM_STS: Final = 0x18  # 4 octets: status, burst count (2 octets), TPM 2.0 status
TPM_HASH_END: Final = 0x20  # 1 octet, locality 4 only
TPM_HASH_DATA: Final = 0x24  # 1 to 4 octets, locality 4 only, between HASH_START and HASH_END
TPM_DATA_FIFO: Final = 0x24  # 1 to 4 octets
TPM_HASH_START: Final = 0x28  # 1 octet, locality 4 only
TPM_INTERFACE_ID: Final = 0x30  # 4 octets used of 8
TPM_XDATA_FIFO: Final = 0x80  # every octet of the range is the FIFO, for transfers of up to 64 octets
TPM_XDATA_FIFO_SIZE: Final = 64
TPM_DID_VID: Final = 0xF00  # 4 octets
TPM_RID: Final = 0xF04  # 1 octet

# TPM_ACCESS.
ACCESS_TPM_REG_VALID_STS: Final = 0x80
ACCESS_ACTIVE_LOCALITY: Final = 0x20
ACCESS_BEEN_SEIZED: Final = 0x10
ACCESS_SEIZE: Final = 0x08
ACCESS_PENDING_REQUEST: Final = 0x04
ACCESS_REQUEST_USE: Final = 0x02
ACCESS_TPM_ESTABLISHMENT: Final = 0x01  # inverted: 0 says that a dynamic launch took place

# TPM_INT_ENABLE, TPM_INT_STATUS and the low bits of TPM_INTF_CAPABILITY.
INT_DATA_AVAIL: Final = 0x01
INT_STS_VALID: Final = 0x02
INT_LOCALITY_CHANGE: Final = 0x04
INT_COMMAND_READY: Final = 0x80
INT_ALL: Final = INT_DATA_AVAIL | INT_STS_VALID | INT_LOCALITY_CHANGE | INT_COMMAND_READY
INT_TYPE_POLARITY_MASK: Final = 0x18  # TPM_INT_ENABLE: high level, low level, rising or falling edge
INT_TYPE_POLARITY_LOW_LEVEL: Final = 0x08
INT_GLOBAL_ENABLE: Final = 0x80000000  # TPM_INT_ENABLE

# TPM_INTF_CAPABILITY.
INTF_INTERRUPT_LEVEL_LOW: Final = 0x10
INTF_BURST_COUNT_STATIC: Final = 0x100
INTF_DATA_TRANSFER_SIZE_SHIFT: Final = 9  # 2 bits: 0 legacy (1 octet), 1, 2, 3: 8, 32, 64 octets
INTF_DATA_TRANSFER_SIZE_64: Final = 3 << INTF_DATA_TRANSFER_SIZE_SHIFT
INTF_INTERFACE_VERSION_SHIFT: Final = 28  # 3 bits
INTF_VERSION_TIS_1_3: Final = 2
INTF_VERSION_PTP: Final = 3  # FIFO interface of a TPM 2.0

# TPM_STS.
STS_VALID: Final = 0x80
STS_COMMAND_READY: Final = 0x40
STS_TPM_GO: Final = 0x20
STS_DATA_AVAIL: Final = 0x10
STS_EXPECT: Final = 0x08
STS_SELF_TEST_DONE: Final = 0x04
STS_RESPONSE_RETRY: Final = 0x02
STS_BURST_COUNT_SHIFT: Final = 8  # 16 bits
STS_COMMAND_CANCEL: Final = 1 << 24  # TPM 2.0, write only
STS_RESET_ESTABLISHMENT_BIT: Final = 1 << 25  # TPM 2.0, write only, localities 3 and 4
STS_TPM_FAMILY_SHIFT: Final = 26  # TPM 2.0, 2 bits
TPM_FAMILY_1_2: Final = 0
TPM_FAMILY_2_0: Final = 1

# TPM_INTERFACE_ID.
INTERFACE_TYPE_MASK: Final = 0x0F
INTERFACE_TYPE_FIFO: Final = 0x00
INTERFACE_TYPE_CRB: Final = 0x01
INTERFACE_CAP_LOCALITY: Final = 0x100  # all five localities
INTERFACE_CAP_FIFO: Final = 0x2000
INTERFACE_SELECTOR_LOCK: Final = 0x80000  # set by software, until the next reset: the choice is made
INTERFACE_ID_TIS_1_3: Final = 0xFFFFFFFF  # interface type 15: the register says nothing more

NOTHING: Final = 0xFFFFFFFF
"""What 4 octets read as where no register answers."""
