"""The TPM 2.0 engine: the TCG TPM 2.0 Library specification, version 185, as bytes in, bytes out."""
