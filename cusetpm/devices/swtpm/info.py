"""What a TPM says of itself outside of its commands: a JSON object in the form that libtpms gives it.

swtpm_setup and swtpm_ioctl --info read it, and the first makes certificates from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cusetpm.devices.swtpm import abi
from hwtpm.tpm2 import profile
from hwtpm.tpm12 import profile as profile12

MODEL: Final = "cusetpm"

_REVISION_12: Final = 116  # of TPM Main, level 2


def describe(family: str, flags: int) -> str:
    """Return what the SWTPM_INFO_ *flags* ask for of a TPM of *family*; what is not known is left out."""
    import json  # seldom needed, and an import that every start would have to wait for

    found = {name: tell() for flag, (name, tell) in _TOPICS[family].items() if flags & flag}
    return json.dumps(found, separators=(",", ":"))


def _specification_12() -> object:
    return {"family": "1.2", "level": profile12.SPEC_LEVEL, "revision": _REVISION_12}


def _attributes_12() -> object:
    return {"manufacturer": f"id:{profile12.VENDOR_ID.hex().upper()}",
            "version": f"id:{profile12.REV_MAJOR:04X}{profile12.REV_MINOR:04X}",
            "model": MODEL}


def _specification() -> object:
    return {"family": "2.0", "level": profile.SPEC_LEVEL, "revision": profile.SPEC_VERSION}


def _attributes() -> object:
    return {"manufacturer": f"id:{profile.MANUFACTURER:08X}",
            "version": f"id:{profile.FIRMWARE_VERSION_1:08X}",
            "model": MODEL}


def _features() -> object:
    return {"RSAKeySizes": sorted(profile.RSA_KEY_BITS),
            "CamelliaKeySizes": sorted(profile.CAMELLIA_KEY_BITS)}


_TOPICS: Final[dict[str, dict[int, tuple[str, Callable[[], object]]]]] = {
    "1.2": {
        abi.SWTPM_INFO_TPMSPECIFICATION: ("TPMSpecification", _specification_12),
        abi.SWTPM_INFO_TPMATTRIBUTES: ("TPMAttributes", _attributes_12),
    },
    "2.0": {
        abi.SWTPM_INFO_TPMSPECIFICATION: ("TPMSpecification", _specification),
        abi.SWTPM_INFO_TPMATTRIBUTES: ("TPMAttributes", _attributes),
        abi.SWTPM_INFO_TPMFEATURES: ("TPMFeatures", _features),
    },
}
