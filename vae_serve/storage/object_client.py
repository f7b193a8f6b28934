"""The client of object stores, obstore, as everything here uses it: whose credentials, and how patient.

Credentials and endpoints come from the environment, under the names that users of each cloud expect.

obstore has threads of its own. A process that has used it must not fork children that use it too: they hang. Its calls
do not notice signals either, hence `interruptible`.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from vae_serve.errors import MissingExtra, UsageError
from vae_serve.storage.object_failure import CREDENTIALS, ENDPOINTS
from vae_serve.storage.object_url import ObjectUrl

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

    Client = S3Store | GCSStore | AzureStore

P = ParamSpec("P")
T = TypeVar("T")

_users: set[int] = set()  # the processes that have used the client: this one, and one that it was forked off
RETRIES = 10
FIRST_RETRIES = 3  # of the first contact: a wrong endpoint is told within two seconds
_RETRY_SECONDS = 180  # no retry begins later: credentials may end, and a shard is not lost by giving up


def open_bucket(url: ObjectUrl, timeout: float = 30, retries: int = RETRIES) -> "Client":
    """A client of the URL's bucket, whose keys are whole. It is made without any request.

    Server errors, lost connections and time-outs of reading are tried again with growing pauses, up to three minutes.
    `timeout` is for one request with its whole body, in seconds.

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
            "max_retries": retries,
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


def interruptible(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a call of the client returns. Ctrl-C ends the wait for it at once; the request is then left to itself.

    A store that has ceased to answer would otherwise hold a program for minutes after Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
        return call(*args, **kwargs)  # no signal raises anything here
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result()


def interruptibly(iterator: Iterator[T]) -> Iterator[T]:
    """The same for each element that an iterator of the client asks the store for."""
    ended = object()
    while (element := interruptible(next, iterator, ended)) is not ended:
        yield element  # type: ignore[misc]  # it is not `ended`


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
