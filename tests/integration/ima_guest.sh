#!/bin/sh
# What runs in a guest whose kernel measures (ima_policy=tcb): shows its PCRs, its measurement list and its event log.
# The list is read last, and by what is in it already, so that it is all that PCR 10 contains.
set -eu
mount -t securityfs securityfs /sys/kernel/security
ima=/sys/kernel/security/ima
tpm=/sys/class/tpm/tpm0

echo one >/root/measured
cat /root/measured >/dev/null
echo two >/root/measured
cat /root/measured >/dev/null

mkdir /run/shown
show() {
    for bank in "$tpm"/pcr-*; do
        for pcr in 0 1 2 3 4 5 6 7 8 9 10; do
            read -r value <"$bank/$pcr"
            echo "pcr ${bank##*pcr-}:$pcr=$value"
        done
    done
    for file in "$ima/binary_runtime_measurements" "$ima/ascii_runtime_measurements" \
        "/sys/kernel/security/tpm0/binary_bios_measurements"; do
        echo "file ${file##*/} $(base64 -w0 "$file")"
    done
}
# The first time measures what it takes.
show >/run/shown/first
show
