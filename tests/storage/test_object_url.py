"""Names of places in object stores: what is one, and what is refused without being shown."""

import pickle
from pathlib import Path

import pytest

from vae_serve.errors import UsageError
from vae_serve.storage.object_url import ObjectUrl, is_url, parse_object_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://photos", ObjectUrl("s3", "photos")),
        ("s3://photos/", ObjectUrl("s3", "photos")),
        ("s3://photos/2024/may/", ObjectUrl("s3", "photos", "2024/may")),
        ("gs://my.bucket_1/a", ObjectUrl("gs", "my.bucket_1", "a")),
        ("az://$web/a b#c%20é+.zip", ObjectUrl("az", "$web", "a b#c%20é+.zip")),
        ("S3://photos/A@b:c", ObjectUrl("s3", "photos", "A@b:c")),
    ],
)
def test_a_url_is_a_bucket_and_a_key_as_it_is(text, url):
    assert is_url(text)
    assert parse_object_url(text) == url
    assert pickle.loads(pickle.dumps(url)) == url


@pytest.mark.parametrize("text", ["photos", "./s3/photos", "/data/x.npz:images", "C:/x", "data/**/*.png", "mnist", "-"])
def test_a_path_is_no_url(text):
    assert not is_url(text)


def test_names_are_joined_below_a_url_and_shown_as_they_are_typed():
    url = parse_object_url("s3://photos/2024/")
    assert str(url) == "s3://photos/2024"
    assert str(url / "may/a b.png") == "s3://photos/2024/may/a b.png"
    assert str(ObjectUrl("s3", "photos") / "a") == "s3://photos/a"
    assert str(ObjectUrl("s3", "photos")) == "s3://photos"
    assert (url.name, ObjectUrl("s3", "photos").name) == ("2024", "photos")


@pytest.mark.parametrize(
    "text",
    [
        "s3://KEY:hush@photos/a",
        "s3://hush@photos/a",
        "s3://photos:hush/a",
        "s3://photos/a?X-Amz-Signature=hush",
        "s3://photos?access_key=hush",
        "az://photos/a?sv=2021&sig=hush",
    ],
)
def test_a_url_that_can_hold_a_secret_is_refused_and_not_shown(text):
    with pytest.raises(UsageError, match="may be secret") as refused:
        parse_object_url(text)
    assert "hush" not in str(refused.value)
    assert "KEY" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3a://photos/a", "write s3://"),
        ("abfss://photos/a", "write az://"),
        ("https://user:hush@example.org/a?sig=hush", "https:// is not known here"),
        ("s3://", "names no bucket"),
        ("s3:///a", "names no bucket"),
        ("s3://Photos/a", "cannot be a bucket"),
        ("s3://photos/a//b", "no empty part"),
        ("s3://photos/a/../b", "no empty part"),
        ("s3://photos/a\x1bb", "no control character"),
        ("s3://photos/a\\b", "no backslash"),
        (str(Path("s3://photos/a")), "lost a slash"),
        ("photos", "is not a URL"),
    ],
)
def test_what_names_no_place_is_refused_with_what_to_write(text, message):
    with pytest.raises(UsageError, match=message) as refused:
        parse_object_url(text)
    assert "hush" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
