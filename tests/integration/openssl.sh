#!/usr/bin/env bash
# openssl.sh: keys in the TPM of tpm2-openssl's provider, checked by OpenSSL without a TPM.
#
# Works in the current directory, prints what it found, and fails at the first surprise.  The TPM is that of
# TPM2OPENSSL_TCTI.
set -euo pipefail

tpm=(-provider tpm2 -provider default -propquery '?provider=tpm2')
printf 'a message' >message

openssl list -providers -provider tpm2 | grep -q 'TPM 2.0 Provider'
test "$(openssl rand "${tpm[@]}" -hex 16 | wc -c)" = 33

# ECDSA: the private key is a blob that only this TPM can load.
openssl genpkey "${tpm[@]}" -algorithm EC -pkeyopt group:P-256 -out ec.pem
grep -q 'BEGIN TSS2 PRIVATE KEY' ec.pem
openssl pkey "${tpm[@]}" -in ec.pem -pubout -out ec.pub
openssl pkeyutl "${tpm[@]}" -sign -inkey ec.pem -rawin -digest sha256 -in message -out ec.sig
openssl pkeyutl -verify -pubin -inkey ec.pub -rawin -digest sha256 -in message -sigfile ec.sig | grep -q Success
echo 'ecdsa verified'

# RSA: PSS, and what was encrypted outside.
openssl genpkey "${tpm[@]}" -algorithm RSA -pkeyopt bits:2048 -out rsa.pem
openssl pkey "${tpm[@]}" -in rsa.pem -pubout -out rsa.pub
pss=(-digest sha256 -pkeyopt rsa_padding_mode:pss)
openssl pkeyutl "${tpm[@]}" -sign -inkey rsa.pem -rawin "${pss[@]}" -in message -out rsa.sig
openssl pkeyutl -verify -pubin -inkey rsa.pub -rawin "${pss[@]}" -in message -sigfile rsa.sig | grep -q Success
echo 'pss verified'
openssl pkeyutl -encrypt -pubin -inkey rsa.pub -in message -out sealed
opened=$(openssl pkeyutl "${tpm[@]}" -decrypt -inkey rsa.pem -in sealed)
echo "decrypted $opened"

# A certificate request is signed by the TPM and checked without one.
openssl req "${tpm[@]}" -new -key ec.pem -subj /CN=guest -sha256 -out request.pem
openssl req -verify -noout -in request.pem 2>&1 | grep -qi 'verify ok'
echo 'request verified'
