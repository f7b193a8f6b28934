"""A bundle as a spec holds it: its folder and the hash of its manifest, which has the hashes of all else."""

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from vae_serve.errors import BundleError
from vae_serve.jobs.opened import Opened
from vae_serve.model import bundle as bundles
from vae_serve.model.bundle import Bundle

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place


class BundleFolder(msgspec.Struct, frozen=True):
    """The bundle that another process has loaded."""

    path: "Place"
    manifest_sha256: str

    def open(self) -> Bundle:
        """Loads and checks it, once a process.

        Raises:
            BundleError: it cannot be used, or is another one by now.
        """
        return _load(self.path, self.manifest_sha256)


def opened(bundle: Bundle) -> Opened[Bundle]:
    """For a spec."""
    path = bundle.path.absolute() if isinstance(bundle.path, Path) else bundle.path
    sha256 = _manifest_sha256(bundle)
    return Opened(bundle, lambda: BundleFolder(path, sha256), key=f"bundle-{sha256}")


def network_sha256(bundle: Bundle, role: str) -> str | None:
    """Of the file of a bundle's "encoder" or "decoder"; None where it has none."""
    network = bundle.manifest.encoder if role == "encoder" else bundle.manifest.decoder
    return next((entry.sha256 for entry in bundle.manifest.files if network and entry.path == network.file), None)


@cache
def _load(path: "Place", manifest_sha256: str) -> Bundle:
    bundle = bundles.load(path)
    if _manifest_sha256(bundle) != manifest_sha256:
        raise BundleError(f"{path} has changed since the job began; choose another --out, or --overwrite")
    return bundle


def _manifest_sha256(bundle: Bundle) -> str:
    return hashlib.sha256(msgspec.json.encode(bundle.manifest)).hexdigest()
