"""A store of objects, on real servers: made once, never replaced, and what is in the way is told."""

import pytest
from faulty_proxy import Answer, error, faulty

from vae_serve.errors import OutputError
from vae_serve.storage.object_store import ObjectStore
from vae_serve.storage.object_url import ObjectUrl


def writes(contents: bytes):
    return lambda file: file.write(contents)


@pytest.fixture(params=["seaweed", "azurite"])
def server(request, monkeypatch):
    server = request.getfixturevalue(request.param)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return server


def opened(server, bucket, key="results/1"):
    server.make_bucket(bucket)
    return ObjectStore(ObjectUrl(server.scheme, bucket, key), ".job")


def test_what_is_created_is_got_and_listed_and_deleted(server):
    store = opened(server, "made")
    names = ["a", ".job/b", ".job/deep/c", "odd é +&=#;'()100%"]
    for name in names:
        store.create(name, writes(name.encode()))
    assert [store.get(name) for name in names] == [name.encode() for name in names]
    assert [contents for _, contents in store.get_all([*names, "none"])] == [*(name.encode() for name in names), None]
    assert store.list() == sorted([".job", "a", names[3]])
    assert store.list(".job") == ["b", "deep"]
    assert store.list("nowhere") == []
    assert store.existing(["a", ".job/b", ".job/x", "x"]) == {"a", ".job/b"}
    assert (store.exists("a"), store.exists("x"), store.get("x")) == (True, False, None)
    with store.open("a") as file:
        assert file.read() == b"a"
    with pytest.raises(FileNotFoundError):
        store.open("x")
    store.delete("a")
    store.delete("a")
    store.delete_folder(".job")
    assert server.objects("made") == {f"results/1/{names[3]}": names[3].encode()}


def test_a_name_with_the_same_bytes_is_success_and_with_others_an_error_that_keeps_them(server):
    store = opened(server, "once")
    store.create("a", writes(b"1"))
    store.create("a", writes(b"1"))
    with pytest.raises(FileExistsError):
        store.create("a", writes(b"2"))
    assert store.get("a") == b"1"


def test_a_large_file_comes_whole_and_an_empty_one_too(server, monkeypatch):
    monkeypatch.setattr("vae_serve.storage.object_store._IN_MEMORY", 1 << 16)
    store, contents = opened(server, "large"), bytes(range(256)) * 4096
    store.create("a", writes(contents))
    store.create("a", writes(contents))
    store.create("b", writes(b""))
    assert (store.get("a"), store.get("b")) == (contents, b"")


def test_the_lease_survives_the_state_and_ends_with_the_store(server):
    store = opened(server, "leased")
    store.lock(print)
    store.create_all({".job/plan.json": writes(b"{}")})
    with pytest.raises(OutputError, match="is being written by process"):
        opened_again(store).lock(print)
    store.delete_folder(".job")
    assert server.objects("leased").keys() == {"results/1/.job/lease/00000001.json"}
    store.close()
    assert server.objects("leased") == {}


def opened_again(store):
    return ObjectStore(store.url, ".job")


def test_a_store_that_passes_over_conditions_is_refused(careless, monkeypatch):
    for name, value in careless.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "S3RVER")
    store = ObjectStore(ObjectUrl("s3", "bucket", "results"), ".job")
    with pytest.raises(
        OutputError, match=r"the store of s3://bucket/results replaces what exists .* \(If-None-Match\)"
    ):
        store.lock(print)
    assert store.list(".job/lease") == []


@pytest.mark.parametrize(
    "answer",
    [Answer(503, error("SlowDown")), Answer(500, error("InternalError"), after=True)],
    ids=["refused", "done, and the answer lost"],
)
def test_a_write_that_the_server_fails_is_tried_again(answer, seaweed, monkeypatch):
    seaweed.make_bucket("failing")
    with faulty(seaweed.endpoint, lambda request: answer if request.number == 1 else None) as proxy:
        for name, value in seaweed.environment(endpoint=proxy.endpoint).items():
            monkeypatch.setenv(name, value)
        store = ObjectStore(ObjectUrl("s3", "failing", str(answer.status)), ".job")
        store.create("a", writes(b"1"))
        assert store.get("a") == b"1"
        assert [request.method for request in proxy.requests].count("PUT") == 2


def test_a_write_that_is_not_answered_is_tried_again(seaweed, monkeypatch):
    monkeypatch.setattr("vae_serve.storage.object_store._SECONDS", 0.5)
    seaweed.make_bucket("silent")
    lost = Answer(0, after=True, silent=True)
    with faulty(seaweed.endpoint, lambda request: lost if request.number == 1 else None) as proxy:
        for name, value in seaweed.environment(endpoint=proxy.endpoint).items():
            monkeypatch.setenv(name, value)
        store = ObjectStore(ObjectUrl("s3", "silent", "x"), ".job")
        store.create("a", writes(b"1"))
        assert store.get("a") == b"1"


@pytest.mark.parametrize(
    ("user", "message"),
    [("reader", "no permission to write s3://rights/x/.job/lease"), ("putter", "no permission to list s3://rights/x")],
)
def test_a_missing_permission_is_told_before_any_work(user, message, seaweed, monkeypatch):
    seaweed.make_bucket("rights")
    for name, value in seaweed.environment(user).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OutputError, match=message):
        ObjectStore(ObjectUrl("s3", "rights", "x"), ".job").lock(print)
