"""The numbers of swtpm's ioctls, and the sizes of its structures."""

from __future__ import annotations

from cusetpm.devices.swtpm import abi

# Printed by a C program that includes swtpm's include/swtpm/tpm_ioctl.h, on x86-64.
IOCTLS = {
    "PTM_GET_CAPABILITY": 0x80085000, "PTM_INIT": 0xC0045001, "PTM_SHUTDOWN": 0x80045002,
    "PTM_GET_TPMESTABLISHED": 0x80085003, "PTM_SET_LOCALITY": 0xC0045004, "PTM_HASH_START": 0x80045005,
    "PTM_HASH_DATA": 0xD0045006, "PTM_HASH_END": 0x80045007, "PTM_CANCEL_TPM_CMD": 0x80045008,
    "PTM_STORE_VOLATILE": 0x80045009, "PTM_RESET_TPMESTABLISHED": 0xC004500A, "PTM_GET_STATEBLOB": 0xCC10500B,
    "PTM_SET_STATEBLOB": 0xCC0C500C, "PTM_STOP": 0x8004500D, "PTM_GET_CONFIG": 0x8008500E,
    "PTM_SET_DATAFD": 0x8004500F, "PTM_SET_BUFFERSIZE": 0xC0105010, "PTM_GET_INFO": 0xCC105011,
    "PTM_LOCK_STORAGE": 0xC0045012,
}


def test_ioctls_have_the_numbers_that_a_c_compiler_gives_them() -> None:
    assert {name: number for name, number in vars(abi).items() if name in IOCTLS} == IOCTLS


def test_the_number_of_an_ioctl_is_that_of_its_command_less_one() -> None:
    for name, number in IOCTLS.items():
        assert (number & 0xFF) + 1 == getattr(abi, name.replace("PTM_", "CMD_"))


def test_structures_have_the_sizes_of_c_in_either_byte_order() -> None:
    sizes = (4, 8, 8, 8, 1, 4, 4, 12, 16, 12, 8, 4, 16, 16, 12, 4)
    for order in (abi.BIG_ENDIAN, abi.HOST_ENDIAN):
        assert tuple(structure.size for structure in abi.structures(order)) == sizes
