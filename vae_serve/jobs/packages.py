"""Which packages a process runs on: with others, the same shard may have other bytes."""

import hashlib
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("numpy", "onnxruntime", "pillow", "pyarrow", "imagecodecs")


def running() -> dict[str, str]:
    """Versions by name; "" for a package that is not installed. That of this package is a hash of its code."""
    found = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}", "vae-serve": _code()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def _code() -> str:
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def differences(here: dict[str, str], there: dict[str, str]) -> str:
    """`pyarrow 22.0.0 there and 23.0.1 here, ...`; "" where there is none."""
    return ", ".join(
        f"{package} {there.get(package) or 'missing'} there and {version or 'missing'} here"
        for package, version in here.items()
        if there.get(package) != version
    )
