"""The hardware TPM model: engines, cryptography, TIS registers and the chip."""
