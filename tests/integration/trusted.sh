#!/usr/bin/env bash
# trusted.sh new|load|foreign|1.2: trusted keys of the kernel's, which only its TPM unseals, through keyctl.
#
# TRUSTED is the directory of the modules asn1_encoder.ko and trusted.ko.  Works in the current directory, as root on a
# machine of its own, prints what it found, and fails at the first surprise.  "new" makes keys, "load" unseals them
# after the chip has come again, "foreign" is another TPM, which cannot; "1.2" does both with a TPM 1.2 that has an
# owner.  IBM's utilities leave a session in the TPM of TPM_DEVICE, where the kernel finds it.
set -euo pipefail

SRK=0x81000001
sealed="keyhandle=$SRK hash=sha256"

refused() { # MESSAGE COMMAND...
    local said
    if said=$("${@:2}" 2>&1); then echo "not refused: ${*:2}" >&2; return 1; fi
    [[ $said == *"$1"* ]] || { echo "$said" >&2; return 1; }
}

srk() {
    tpm2_createprimary -Q -C o -G rsa2048 -c srk.context
    tpm2_evictcontrol -Q -C o -c srk.context $SRK
}

# A session in which PCR 16 is what it is now; the kernel wants its number.
policy() {
    tssstartauthsession -se p >session
    tsspolicypcr -ha 03000000 -bm 10000 >/dev/null
}

forget() { keyctl clear @s; }

# The module takes the chip that is there when it is loaded.
modules() { insmod "$TRUSTED/asn1_encoder.ko" && insmod "$TRUSTED/trusted.ko"; }
no_modules() { forget; rmmod trusted asn1_encoder; }

# What user space sees of a key is its blob; the kernel takes one only with what the TPM unseals from it.
add() { keyctl print "$(keyctl add trusted "$1" "$2" @s)" >"$1.now"; }
new() { add "$1" "new 32 $2" && mv "$1.now" "$1.blob"; }
load() { add "$1" "load $(cat "$1.blob") $2" && cmp "$1.now" "$1.blob"; }

keyctl new_session >/dev/null
modules
case $1 in
    new)
        srk
        new plain "$sealed"
        tpm2_createpolicy -Q --policy-pcr -l sha256:16 -L policy
        digest=$(od -An -v -tx1 policy | tr -d ' \n')
        new bound "$sealed policydigest=$digest"
        echo sealed
        ;;
    load)
        load plain "$sealed"
        refused "Operation not permitted" load bound "$sealed"
        policy
        load bound "$sealed policyhandle=0x03000000"
        echo "unsealed, one of them with its PCR"
        forget
        tpm2_pcrextend "16:sha256=$(printf %064d 1)"
        policy
        refused "Operation not permitted" load bound "$sealed policyhandle=0x03000000"
        echo "refused with another PCR"
        ;;
    foreign)
        srk
        refused "Operation not permitted" load plain "$sealed"
        echo "refused by another TPM"
        ;;
    1.2)
        new kmk ""
        forget
        load kmk ""
        echo "unsealed with a TPM 1.2"
        ;;
esac
no_modules
