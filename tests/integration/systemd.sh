#!/usr/bin/env bash
# systemd.sh: a credential of systemd's that is sealed to PCR 7.
#
# Works in the current directory, prints what it found, and fails at the first surprise.  The TPM is that of
# SYSTEMD_TPM2_DEVICE.
set -euo pipefail

extend() { tpm2_pcrextend "7:sha256=$(printf %064d 1)"; }

extend  # A PCR that nothing was measured into protects nothing, and systemd says so.
printf secret | systemd-creds encrypt --with-key=tpm2 --tpm2-pcrs=7 --name=ours - credential 2>log
echo "opened $(systemd-creds decrypt --name=ours credential - 2>>log)"
extend
if systemd-creds decrypt --name=ours credential - >/dev/null 2>&1; then exit 1; fi
echo refused
