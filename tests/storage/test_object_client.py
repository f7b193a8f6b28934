"""What object stores say, on real servers, and the sentence that a user gets."""

import os
import signal
import subprocess
import sys

import pytest
from faulty_proxy import Answer, error, faulty

from vae_serve.errors import MissingExtra, SourceError, UsageError
from vae_serve.model.objects import ObjectFolder
from vae_serve.sources.objects import bucket
from vae_serve.storage.object_client import FIRST_RETRIES, RETRIES, open_bucket
from vae_serve.storage.object_failure import failure, told
from vae_serve.storage.object_store import ObjectStore
from vae_serve.storage.object_url import ObjectUrl, parse_object_url

exceptions = pytest.importorskip("obstore.exceptions")


@pytest.fixture
def use(monkeypatch):
    """Sets the environment for a server: use(server, user=..., endpoint=...)."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)

    def set_environment(server, **how):
        for name, value in server.environment(**how).items():
            monkeypatch.setenv(name, value)

    return set_environment


def tried(url, doing, first=True):
    """What becomes of a way to use the URL's object or bucket."""
    client = open_bucket(url, retries=FIRST_RETRIES if first else RETRIES)
    ways = {
        "read": lambda: bytes(client.get(url.key).bytes()),
        "list": lambda: [item["path"] for page in client.list(url.key) for item in page],
        "write": lambda: client.put(url.key, b"x", mode="create"),
        "delete": lambda: client.delete(url.key),
    }
    try:
        return ways[doing]()
    except (exceptions.BaseError, OSError, ValueError) as problem:
        return failure(problem, url, doing)


def test_environment_alone_leads_to_an_s3_store(seaweed, use):
    seaweed.make_bucket("plain", {"a/b.txt": b"contents"})
    use(seaweed)
    assert tried(parse_object_url("s3://plain/a/b.txt"), "read") == b"contents"


def test_environment_alone_leads_to_an_azure_store(azurite, use):
    azurite.make_bucket("plain", {"a/b.txt": b"contents"})
    use(azurite)
    assert tried(parse_object_url("az://plain/a/b.txt"), "read") == b"contents"


def test_a_connection_string_leads_to_an_azure_store(azurite, use, monkeypatch):
    azurite.make_bucket("connected", {"a.txt": b"contents"})
    use(azurite)
    settings = {name: os.environ[f"AZURE_STORAGE_{name}"] for name in ("ACCOUNT_NAME", "ACCOUNT_KEY", "ENDPOINT")}
    for name in settings:
        monkeypatch.delenv(f"AZURE_STORAGE_{name}")
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName={settings['ACCOUNT_NAME']};AccountKey={settings['ACCOUNT_KEY']};"
        f"BlobEndpoint={settings['ENDPOINT']};",
    )
    assert tried(parse_object_url("az://connected/a.txt"), "read") == b"contents"


def test_an_azure_store_without_an_account_says_which_variable_is_missing(use):
    with pytest.raises(UsageError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        open_bucket(ObjectUrl("az", "photos"))


def test_settings_that_make_no_sense_are_refused_without_being_shown(use, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "hush, no base64")
    with pytest.raises(UsageError, match="make no sense; look at AZURE_STORAGE_ACCOUNT_NAME") as refused:
        open_bucket(ObjectUrl("az", "photos"))
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("doing", ["read", "list"])
@pytest.mark.parametrize("store", ["seaweed", "azurite"])
def test_a_bucket_that_is_not_there(store, doing, use, request):
    server = request.getfixturevalue(store)
    use(server)
    met = tried(ObjectUrl(server.scheme, "nowhere", "a"), doing)
    assert met.kind == "no bucket"
    assert f"there is no bucket 'nowhere' for {server.scheme}://nowhere/a at 127.0.0.1:" in met.message
    assert not met.passing


@pytest.mark.parametrize("store", ["seaweed", "azurite"])
def test_an_object_that_is_not_there(store, use, request):
    server = request.getfixturevalue(store)
    server.make_bucket("empty")
    use(server)
    met = tried(ObjectUrl(server.scheme, "empty", "a"), "read")
    assert met.kind == "missing"
    assert f"{server.scheme}://empty/a does not exist" in met.message


@pytest.mark.parametrize(
    ("user", "doing"), [("lister", "read"), ("getter", "list"), ("reader", "write"), ("reader", "delete")]
)
def test_what_is_not_permitted_is_named(user, doing, seaweed, use):
    seaweed.make_bucket("guarded", {"a": b"x"})
    use(seaweed, user=user)
    url = ObjectUrl("s3", "guarded", "b" if doing == "write" else "a")
    met = tried(url, doing)
    assert met.kind == "forbidden"
    assert f"no permission to {doing} {url} (" in met.message
    assert "AccessDenied); the credentials in use need the right to" in met.message


@pytest.mark.parametrize("store", ["seaweed", "azurite"])
def test_wrong_credentials_name_the_variables_and_not_their_values(store, use, request, monkeypatch):
    server = request.getfixturevalue(store)
    server.make_bucket("locked", {"a": b"x"})
    use(server)
    if server.scheme == "s3":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    else:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "aHVzaA==")
    met = tried(ObjectUrl(server.scheme, "locked", "a"), "read")
    assert met.kind == "credentials"
    assert "set AWS_ACCESS_KEY_ID" in met.message or "set AZURE_STORAGE_ACCOUNT_NAME" in met.message
    assert "hush" not in met.message
    assert "aHVzaA" not in met.message


def test_an_endpoint_where_nothing_listens_is_told_soon(seaweed, use):
    use(seaweed, endpoint="http://127.0.0.1:1")
    met = tried(ObjectUrl("s3", "photos", "a"), "read")
    assert met.kind == "unreachable"
    assert "nothing answers at 127.0.0.1:1; look at the network and at AWS_ENDPOINT_URL" in met.message
    assert met.passing


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [  # as Amazon's S3 answers ("Error responses" in its API reference); no server for tests looks at regions
        (
            Answer(400, error("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")),
            "region",
            "is in another region (400, AuthorizationHeaderMalformed); set AWS_REGION to eu-west-1",
        ),
        (Answer(301, error("PermanentRedirect")), "region", "set AWS_REGION to the one of the bucket"),
        (
            Answer(400, error("ExpiredToken")),
            "expired",
            "have expired (400, ExpiredToken); renew them and run the same",
        ),
        (Answer(503, error("SlowDown")), "server", "the store cannot answer (503, SlowDown), also after several tries"),
        (Answer(418, b"hush"), "other", "cannot read s3://proxied/a (418)"),
    ],
)
@pytest.mark.parametrize("doing", ["read", "list"])
def test_what_clouds_answer_is_a_sentence(answer, kind, message, doing, seaweed, use):
    with faulty(seaweed.endpoint, lambda request: answer) as proxy:
        use(seaweed, endpoint=proxy.endpoint)
        met = tried(ObjectUrl("s3", "proxied", "a"), doing)
    assert met.kind == kind
    assert message.replace("cannot read", f"cannot {doing}") in met.message
    assert "hush" not in met.message


def test_a_server_that_does_not_answer_is_a_time_out(seaweed, use):
    with faulty(seaweed.endpoint, lambda request: Answer(0, silent=True)) as proxy:
        use(seaweed, endpoint=proxy.endpoint)
        url = ObjectUrl("s3", "proxied", "a")
        with pytest.raises(SourceError, match="s3://proxied/a: no answer in time"), told(url, "read"):
            open_bucket(url, timeout=0.2, retries=FIRST_RETRIES).get("a")
        assert len(proxy.requests) > 1  # it was tried again


@pytest.mark.parametrize(
    "use_of",
    [
        lambda store, file: store.get("a"),
        lambda store, file: store.list("a"),
        lambda store, file: store.exists("a"),
        lambda store, file: store.delete("a"),
        lambda store, file: store.delete_folder("a"),
        lambda store, file: store.create_from("a", file),
        lambda store, file: bucket.look(ObjectUrl("s3", "proxied", "a")),
        lambda store, file: bucket.whole(ObjectUrl("s3", "proxied"), "a", 5),
        lambda store, file: list(ObjectFolder(ObjectUrl("s3", "proxied")).files()),
        lambda store, file: ObjectFolder(ObjectUrl("s3", "proxied")).read("a", 5),
    ],
    ids=lambda use_of: "",
)
def test_ctrl_c_is_obeyed_while_a_store_does_not_answer(use_of, seaweed, use, monkeypatch, tmp_path):
    def interrupt(request):
        os.kill(os.getpid(), signal.SIGINT)
        return Answer(0, silent=True)

    monkeypatch.setattr(bucket, "_client", bucket._client.__wrapped__)  # the environment changes with each test
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with faulty(seaweed.endpoint, interrupt) as proxy, (tmp_path / "file").open("w+b") as file:
            file.write(b"bytes")
            use(seaweed, endpoint=proxy.endpoint)
            store = ObjectStore(ObjectUrl("s3", "proxied"), ".job")
            with pytest.raises(KeyboardInterrupt):
                use_of(store, file)
            assert len(proxy.requests) == 1  # nobody waited until the first was given up
    finally:
        signal.signal(signal.SIGINT, before)


def test_server_errors_are_tried_again(seaweed, use):
    seaweed.make_bucket("flaky", {"a": b"contents"})
    with faulty(
        seaweed.endpoint, lambda request: Answer(503, error("SlowDown")) if request.number < 3 else None
    ) as proxy:
        use(seaweed, endpoint=proxy.endpoint)
        assert tried(ObjectUrl("s3", "flaky", "a"), "read") == b"contents"
        assert len(proxy.requests) == 3


def test_what_is_raised_shows_no_signed_url(azurite, use, monkeypatch):
    azurite.make_bucket("shared", {"a": b"x"})
    use(azurite)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2021-08-06&sig=hush")
    with pytest.raises(SourceError) as refused, told(ObjectUrl("az", "shared", "a"), "read"):
        open_bucket(ObjectUrl("az", "shared", "a"), retries=FIRST_RETRIES).get("a")
    assert "hush" not in str(refused.value)
    assert refused.value.__suppress_context__  # and so neither does the traceback of --debug


def test_without_obstore_the_extra_is_named():
    program = """
import sys
sys.modules["obstore"] = None
from vae_serve.errors import MissingExtra
from vae_serve.storage.object_client import FIRST_RETRIES, RETRIES, open_bucket
from vae_serve.storage.object_url import ObjectUrl
try:
    open_bucket(ObjectUrl("s3", "photos"))
except MissingExtra as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(MissingExtra("remote", "s3://"))
