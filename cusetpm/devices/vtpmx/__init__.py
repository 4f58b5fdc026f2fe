"""A chip of the kernel's own before a TPM of ours, through Linux' vtpm-proxy (/dev/vtpmx)."""
