"""The TPM Interface Specification: registers, the chip's side of them and the host's."""
