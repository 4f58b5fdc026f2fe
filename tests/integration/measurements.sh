#!/bin/sh
# Measures files, and compares the list with what evmctl says of it, and then with quotes of tpm2-tools.  It is the
# COMMAND of cusetpm run in an empty directory, with cusetpm on PATH; its arguments are the kind of the key, its
# scheme, and the templates of the list.
set -eu
kind=$1 scheme=$2
shift 2

echo one >one
echo two >two

# The PCRs of a bank as evmctl reads them, which is how a TPM 1.2 has them in sysfs.
pcrs() {
    tpm2_pcrread "$1:all" | sed -n 's/^ *\([0-9]*\) *: 0x/\1 /p' | while read -r index value; do
        printf 'PCR-%02d: %s\n' "$index" "$(echo "$value" | sed 's/../& /g; s/ $//')"
    done >"$1.pcrs"
}
ask_evmctl() {
    for bank in sha1 sha256; do pcrs $bank; done
    evmctl ima_measurement --pcrs sha1,sha1.pcrs --pcrs sha256,sha256.pcrs -v list 2>&1 |
        grep -E 'succeed at entry|Matched|not match|not supported'
}

echo '== measured'
for template; do
    cusetpm ima measure --list list --template "$template" one two >/dev/null
    ask_evmctl
done
cusetpm ima verify list

echo '== changed'
echo changed >two
cusetpm ima measure --list list --template "$template" two >/dev/null
ask_evmctl
cusetpm ima verify list

echo '== quoted'
tpm2_createek -Q -G "$kind" -c ek.ctx
tpm2_createak -Q -C ek.ctx -G "$kind" -g sha256 -s "$scheme" -c ak.ctx -u ak.pub
tpm2_flushcontext -t
tpm2_readpublic -Q -c ak.ctx -f pem -o ak.pem
quote() {
    tpm2_quote -Q -c ak.ctx --scheme "$scheme" -l sha1:0,10+sha256:10,23 -q 0123 -m message -s signature -o values
    tpm2_flushcontext -t
}
verify() {
    cusetpm ima verify --quote message --signature signature "$@" list || echo "status $?"
}
quote
verify --key ak.pub --nonce 0123
verify --key ak.pem --pcrs values

echo '== quoted with another PCR extended'
tpm2_pcrevent -Q 23 one
quote
verify --key ak.pem
verify --key ak.pem --pcrs values

echo '== quoted before the last entry'
cusetpm ima measure --list list --template "$template" "$0" >/dev/null
verify --key ak.pem --pcrs values
verify --key ak.pem --pcrs values --prefix
