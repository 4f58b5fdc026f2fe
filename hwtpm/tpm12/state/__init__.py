"""What a TPM 1.2 remembers, one module per owner of state."""
