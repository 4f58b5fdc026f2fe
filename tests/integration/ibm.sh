#!/usr/bin/env bash
# ibm.sh: IBM's TSS utilities, on TPM_DEVICE as it is, and on the resource manager's CUSETPM_RM_DEVICE.
#
# Works in the current directory, prints what it found, and fails at the first surprise.
set -euo pipefail

loaded() { tssgetcapability -cap 1 -pr 80000000 | sed -n '1s/ handles$//p'; }

# Each utility finds what the one before has loaded.
tssgetrandom -by 16 >/dev/null
tsscreateprimary -hi o -ecc nistp256 -st >/dev/null
tsscreate -hp 80000000 -ecc nistp256 -si -opr key.priv -opu key.pub >/dev/null
tssload -hp 80000000 -ipr key.priv -ipu key.pub >/dev/null
printf 'a message' >message
tsssign -hk 80000001 -ecc -if message -os signature >/dev/null
tssverifysignature -hk 80000001 -ecc -if message -is signature >/dev/null
echo "verified, $(loaded) loaded"
tssstartauthsession -se p >/dev/null
tsspolicypcr -ha 03000000 -bm 10000 >/dev/null
tssflushcontext -ha 03000000
tssflushcontext -ha 80000001
tssflushcontext -ha 80000000
echo "flushed, $(loaded) loaded"

# With the resource manager each has the TPM to itself.
[[ -n ${CUSETPM_RM_DEVICE-} ]] || exit 0
export TPM_DEVICE=$CUSETPM_RM_DEVICE
for _ in 1 2; do
    tsscreateprimary -hi o -ecc nistp256 -st
done
echo "managed, $(loaded) loaded"
