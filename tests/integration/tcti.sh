#!/usr/bin/env bash
# Uses a TPM 2.0 that has been started through the TCTI in TPM2TOOLS_TCTI, and prints what it found.
set -euo pipefail
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT

tpm2_getrandom --hex 16 | grep -Eqx "[0-9a-f]{32}"
tpm2_pcrextend 16:sha256="$(printf %064d 1)"
echo "pcr $(tpm2_pcrread sha256:16 | sed -n "s/.*16: *0x//p")"
printf secret >secret
tpm2_createprimary -Q -C o -c primary
tpm2_flushcontext -t  # There is no resource manager, and three places only on some TPMs.
tpm2_create -Q -C primary -u public -r private -i secret
tpm2_flushcontext -t
tpm2_load -Q -C primary -u public -r private -c sealed
tpm2_flushcontext -t
echo "unsealed $(tpm2_unseal -c sealed)"
