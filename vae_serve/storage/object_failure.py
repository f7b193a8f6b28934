"""What an error of an object store means, and the sentence that says so.

What the client says of an error can hold a signed URL, so no message repeats it: it is known by the status and the code
that the store has answered with.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from vae_serve.errors import SourceError, VaeServeError
from vae_serve.storage.object_url import ObjectUrl

ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""The variables that name a store's address, the first that is set."""
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class Failure(msgspec.Struct, frozen=True):
    """What an error of a store means."""

    kind: str
    """`missing`, `no bucket`, `forbidden`, `credentials`, `expired`, `region`, `unreachable`, `time-out`, `server`,
    `key` or `other`."""
    message: str
    """A sentence with the URL, and what to do."""

    @property
    def passing(self) -> bool:
        """Whether the same may go well a little later: it is never a row's fault."""
        return self.kind in ("unreachable", "time-out", "server")


def failure(error: Exception, url: ObjectUrl, doing: str) -> Failure:
    """What an error of obstore means. `doing` is what was tried: "list", "read", "write" or "delete"."""
    text = str(error)
    status = _found(r"status code: (\d{3})", text)
    code = _found(r"<Code>(\w+)</Code>", text) or _found(r"\(code: (\w+)\)", text)  # the second of a bulk delete
    answer = f" ({', '.join(word for word in (status, code) if word)})" if status or code else ""
    kind = _kind(error, text, status, code)
    host = _found(r"https?://(?:[^/\s@]*@)?([\w.\-\[\]:]+)", text)
    region = _found(r"<Region>([\w-]{1,40})</Region>", text) or _found(r"expecting '([\w-]{1,40})'", text)
    values = {
        "url": str(url),
        "bucket": repr(url.bucket),
        "doing": doing,
        "answer": answer,
        "at": f" at {host}" if host else "",
        "credentials": CREDENTIALS[url.scheme],
        "endpoint": ENDPOINTS[url.scheme][0],
        "region": region or "the one of the bucket",
        "words": answer or f" ({_first_words(text)})",
    }
    return Failure(kind, _SENTENCES[kind].format_map(values))


@contextmanager
def told(url: ObjectUrl, doing: str, kind: type[VaeServeError] = SourceError) -> Iterator[None]:
    """What goes wrong with a store is raised as an error of this `kind`, with one sentence. `doing`: see `failure`."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError, ValueError, NotImplementedError) as error:
        raise kind(failure(error, url, doing).message) from None  # the text of the cause can hold a signed URL


_SENTENCES = {
    "missing": "{url} does not exist{at}",
    "no bucket": "there is no bucket {bucket} for {url}{at}; make it, or correct the name",
    "forbidden": "no permission to {doing} {url}{answer}; the credentials in use need the right to {doing} there",
    "credentials": "{url}: no credentials, or none that are accepted{answer}; set {credentials}",
    "expired": "{url}: the credentials have expired{answer}; renew them and run the same command again",
    "region": "{url} is in another region{answer}; set AWS_REGION to {region}",
    "unreachable": (
        "{url}: nothing answers{at}; look at the network and at {endpoint}, and run the same command again"
    ),
    "time-out": "{url}: no answer in time{at}, also after several tries; run the same command again later",
    "server": "{url}: the store cannot answer{answer}, also after several tries; run the same command again later",
    "key": "{url}: the client takes no key with an empty part, a part '.' or '..', or a control character",
    "other": "cannot {doing} {url}{words}",
}

_CODES = {
    "AccessDenied": "forbidden",
    **dict.fromkeys(("NoSuchBucket", "ContainerNotFound", "InvalidBucketName"), "no bucket"),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"), "region"
    ),
    **dict.fromkeys(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"), "expired"),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"), "credentials"),
    **dict.fromkeys(("InvalidSecurity", "RequestTimeTooSkewed", "InvalidAuthenticationInfo"), "credentials"),
    **dict.fromkeys(("AuthenticationFailed", "NoAuthenticationInformation"), "credentials"),
}
_STATUSES = {
    "301": "region",
    "401": "credentials",
    "403": "forbidden",
    "404": "missing",
    "408": "server",
    "429": "server",
}
_WORDS = (  # of the client, where there is no answer or none that tells; the first that is found
    ("redirect without LOCATION", "region"),
    ("operation timed out", "time-out"),
    ("TimedOut", "time-out"),
    ("error sending request", "unreachable"),
    ("HTTP error", "unreachable"),
)


def _kind(error: Exception, text: str, status: str, code: str) -> str:
    name = type(error).__name__
    if "Server failed to authenticate" in text:  # Azure and Azurite give it different codes
        return "expired" if "expired" in text else "credentials"
    if "169.254.169." in text or name == "UnauthenticatedError":  # asked of the machine, since the environment has none
        return "credentials"
    kind = _CODES.get(code) or _STATUSES.get(status) or ("server" if status.startswith("5") else "")
    if not kind and isinstance(error, ValueError):
        return "key" if "parse path" in text else "other"
    by_name = {"FileNotFoundError": "missing", "PermissionDeniedError": "forbidden"}.get(name)
    return kind or by_name or next((kind for words, kind in _WORDS if words in text), "other")


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def _first_words(text: str) -> str:
    """The beginning of a message, without anything that could be a signed URL."""
    return re.sub(r"https?://\S+|\?\S+", "...", text.partition("\n")[0])[:200]
