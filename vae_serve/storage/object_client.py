"""The client of object stores, obstore, as everything here uses it: whose credentials, and how patient.

Credentials and endpoints come from the environment, under the names that users of each cloud expect.

obstore has threads of its own. A process that has used it must not fork children that use it too: they hang.
"""

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from vae_serve.errors import MissingExtra, UsageError
from vae_serve.storage.object_failure import CREDENTIALS, ENDPOINTS
from vae_serve.storage.object_url import ObjectUrl

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

    Client = S3Store | GCSStore | AzureStore

_users: set[int] = set()  # the processes that have used the client: this one, and one that it was forked off
_FIRST_RETRIES = 3  # a wrong endpoint is told within two seconds
_RETRIES = 10
_RETRY_SECONDS = 180  # no retry begins later: credentials may end, and a shard is not lost by giving up


def open_bucket(url: ObjectUrl, timeout: float = 30, first: bool = False) -> "Client":
    """A client of the URL's bucket, whose keys are whole. It is made without any request.

    Server errors, lost connections and time-outs of reading are tried again with growing pauses, up to three minutes;
    the `first` contact gives up after two seconds, since most likely a name is wrong. `timeout` is for one request with
    its whole body, in seconds.

    Raises:
        MissingExtra: obstore is not installed.
        UsageError: the environment says nothing of the account, or makes no sense; or the process that this one was
            forked off has used the client, so that this one would hang.
    """
    _users.add(os.getpid())
    if len(_users) > 1:
        raise UsageError(
            f"{url.scheme}:// is used in the process that plans, so that processes that are forked off it cannot read "
            "there; choose --engine processes"
        )
    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, S3Store
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "obstore":
            raise
        raise MissingExtra("remote", f"{url.scheme}://") from None

    options: Any = {
        "client_options": {
            "timeout": timedelta(seconds=timeout),
            "allow_http": (_endpoint(url.scheme) or "").startswith("http:"),
        },
        "retry_config": {
            "max_retries": _FIRST_RETRIES if first else _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
        },
    }
    try:
        match url.scheme:
            case "s3":
                return S3Store(url.bucket, **options)
            case "gs":
                return GCSStore(url.bucket, **options)
            case _:
                return AzureStore(url.bucket, **options, **_azure_account())
    except (BaseError, ValueError, TypeError, OSError):  # its text can hold what the variables hold
        raise UsageError(
            f"the environment's settings for {url.scheme}:// make no sense; look at {CREDENTIALS[url.scheme]} and at "
            f"{ENDPOINTS[url.scheme][0]}"
        ) from None


def _endpoint(scheme: str, environment: Mapping[str, str] = os.environ) -> str | None:
    if scheme == "az" and (connection := _connection_string(environment)):
        return connection.get("endpoint")
    return next((environment[name] for name in ENDPOINTS[scheme] if environment.get(name)), None)


def _azure_account() -> dict[str, Any]:
    """Which account it is: Azure's URLs of this kind do not name it."""
    settings = _connection_string(os.environ)
    account = settings.get("account_name") or next(
        (os.environ[name] for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT") if os.environ.get(name)),
        "",
    )
    if not account:
        raise UsageError("az:// needs the name of the storage account: set AZURE_STORAGE_ACCOUNT_NAME")
    return {**settings, "account_name": account}


def _connection_string(environment: Mapping[str, str]) -> dict[str, str]:
    """What AZURE_STORAGE_CONNECTION_STRING says, which Azure's own tools read."""
    names = {
        "AccountName": "account_name",
        "AccountKey": "account_key",
        "BlobEndpoint": "endpoint",
        "SharedAccessSignature": "sas_token",
    }
    pairs = (pair.partition("=") for pair in environment.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";"))
    return {names[name.strip()]: value for name, _, value in pairs if name.strip() in names and value}
