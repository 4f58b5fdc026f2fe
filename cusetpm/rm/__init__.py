"""A resource manager for TPM 2.0: what Linux has behind /dev/tpmrmN."""
