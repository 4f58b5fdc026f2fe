#!/bin/busybox sh
# PID 1 of a guest that is saved in the middle of its work: sends the commands in /before to its TPM, says "ready",
# waits for a line from its serial port, sends those in /after, and shows PCR 16 as its kernel has it.  Commands and
# responses are in hexadecimal, one a line.  It has nothing but busybox.
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo -onlcr
exec 3<>/dev/tpm0

send() {
    while read -r command; do
        printf "$(printf %s "$command" | sed 's/../\\x&/g')" >&3
        echo "response $(dd bs=4096 count=1 <&3 2>/dev/null | hexdump -ve '/1 "%02x"')"
    done
}

send </before
echo ready
read -r _
send </after
tpm=/sys/class/tpm/tpm0
if [ -e $tpm/pcrs ]; then # a TPM 1.2
    value=$(sed -n 's/^PCR-16: //p' $tpm/pcrs | tr -d ' ')
else
    read -r value <$tpm/pcr-sha256/16
fi
echo "pcr $value"
echo done
sleep 1000
