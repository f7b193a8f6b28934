"""Names of places in object stores: `s3://bucket/key`, `gs://bucket/key`, `az://container/key`.

A key is written as it is, without percent-encoding, as the tools of those clouds take it. A URL that can hold a secret
is refused, and no message repeats it.
"""

import re
from pathlib import Path

import msgspec

from vae_serve.errors import UsageError

SCHEMES = {"s3": "Amazon S3 and stores with its protocol", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}

_ALIASES = {
    "s3a": "s3",
    "s3n": "s3",
    "gcs": "gs",
    "azure": "az",
    "abfs": "az",
    "abfss": "az",
    "wasb": "az",
    "wasbs": "az",
}
_URL = r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)"
_LOST_SLASH = r"({}):/(?!/)".format("|".join(SCHEMES))  # what `pathlib.Path` makes of a URL
_BUCKET = r"[a-z0-9$][a-z0-9._-]{1,221}"  # of any of the three; `$root`, `$web` and the like are Azure's


class ObjectUrl(msgspec.Struct, frozen=True):
    """A bucket, and a key or the beginning of keys in it. It can be stored and shown: it holds no secret."""

    scheme: str
    """One of `SCHEMES`."""
    bucket: str
    """Azure calls it a container."""
    key: str = ""
    """Without a slash at either end; "" is the whole bucket."""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}".removesuffix("/")

    def __truediv__(self, name: str) -> "ObjectUrl":
        """As `joined`: what `pathlib.Path` has."""
        return self.joined(name)

    def joined(self, name: str) -> "ObjectUrl":
        """A name below this one, with forward slashes; "" is this one."""
        return ObjectUrl(self.scheme, self.bucket, "/".join(part for part in (self.key, name) if part))

    @property
    def name(self) -> str:
        """The last part of the key, or the bucket's name."""
        return self.key.rpartition("/")[2] or self.bucket


Place = Path | ObjectUrl
"""Where something is: either has `/` for a name below it, and `str`."""


def is_url(text: str) -> bool:
    """Whether a word of the command line is a URL of any kind and no path; `parse_object_url` says if it will do."""
    return re.match(f"{_URL}|{_LOST_SLASH}", text, re.DOTALL) is not None


def parse_object_url(text: str) -> ObjectUrl:
    """The place that a URL names.

    Raises:
        UsageError: it is no such URL, it can hold a secret, or no key can be so named.
    """
    if re.match(_LOST_SLASH, text):
        raise UsageError(f"{text.partition(':')[0]}:/... has lost a slash: give a URL as text, not as a pathlib.Path")
    match = re.fullmatch(_URL, text, re.DOTALL)
    if match is None:
        raise UsageError(f"{text!r} is not a URL of an object store, such as s3://bucket/folder")
    scheme, rest = match[1].lower(), match[2]
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        hint = f"write {_ALIASES[scheme]}://" if scheme in _ALIASES else f"there are {known} and paths"
        raise UsageError(f"{scheme}:// is not known here; {hint}")
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket or "?" in rest:
        raise UsageError(
            f"the {scheme}:// URL holds a user, a password or a query, which may be secret; name bucket and key alone, "
            "and give credentials in the environment"
        )
    if not re.fullmatch(_BUCKET, bucket):
        if not bucket:
            raise UsageError(f"{scheme}:// names no bucket; write {scheme}://bucket/folder")
        raise UsageError(
            f"{bucket!r} cannot be a bucket's name: those have 2 or more lower-case letters, digits, dots, dashes and "
            "underscores"
        )
    return ObjectUrl(scheme, bucket, _checked_key(scheme, bucket, key.strip("/")))


def _checked_key(scheme: str, bucket: str, key: str) -> str:
    parts = key.split("/") if key else []
    if any(part in ("", ".", "..") for part in parts) or re.search("[\x00-\x1f\x7f\\\\\ud800-\udfff]", key):
        raise UsageError(
            f"{f'{scheme}://{bucket}/{key}'!r}: a key has no empty part, no part '.' or '..', no backslash and no "
            "control character"
        )
    return key
