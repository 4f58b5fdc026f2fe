#!/usr/bin/env bash
# pkcs11.sh: keys in the TPM through tpm2-pkcs11, used with OpenSC's pkcs11-tool and checked by OpenSSL.
#
# Works in the current directory, prints what it found, and fails at the first surprise.  The TPM is that of
# TPM2_PKCS11_TCTI.
set -euo pipefail

export TPM2_PKCS11_STORE=$PWD
tpm2_ptool init >/dev/null
tpm2_ptool addtoken --pid=1 --sopin=so --userpin=pin --label=token >/dev/null
for module in /usr/lib/*/libtpm2_pkcs11.so.1; do :; done
tool() { pkcs11-tool --module "$module" --token-label token --login --pin pin "$@" 2>log || { cat log; exit 1; }; }

tool --keypairgen --key-type EC:prime256v1 --label key --id 01 >/dev/null
openssl dgst -sha256 -binary log >digest
tool --sign --mechanism ECDSA --id 01 --input-file digest --output-file signature --signature-format openssl >/dev/null
tool --read-object --type pubkey --id 01 --output-file key.der >/dev/null
openssl pkeyutl -verify -pubin -inkey key.der -keyform DER -in digest -sigfile signature | grep -q Success
echo 'ecdsa verified'
echo "random $(tool --generate-random 16 | wc -c)"
