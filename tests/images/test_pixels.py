"""The pixel rule as a manifest holds it, and inverting."""

import json

import numpy as np
import pytest

from vae_serve.errors import BundleError
from vae_serve.images.pixels import PixelRule, invert, to_bytes


def test_a_rule_survives_the_manifest():
    rule = PixelRule(28, 20, 3, fit="crop", invert="auto", background=0)
    assert PixelRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_a_rule_of_before_scaled_decoding_decodes_whole_and_is_written_as_it_was():
    older = {"height": 28, "width": 28, "channels": 1, "fit": "stretch", "filter": "bilinear"}
    older |= {"background": 255, "invert": "no", "scale": "1/255"}
    assert PixelRule.from_json(older).decode == "whole"
    assert PixelRule.from_json(older).to_json() == older
    scaled = PixelRule(28, 28, 1, decode="scaled")
    assert scaled.to_json() == {**older, "decode": "scaled"}
    assert PixelRule.from_json(scaled.to_json()) == scaled


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fit": "squeeze"}, "fit 'squeeze'"),
        ({"channels": 2}, "channels 2"),
        ({"filter": "nearest"}, "filter 'nearest'"),
        ({"scale": "1/127.5"}, "scale '1/127.5'"),
        ({"background": 256}, "background 256"),
        ({"height": 0}, "size 28 x 0"),
        ({"colour": 1}, "colour"),
        ({"decode": "half"}, "decode 'half'"),
        ({"decode": ["scaled"]}, "decode"),
    ],
)
def test_a_rule_that_is_not_known_here_is_refused(change, said):
    with pytest.raises(BundleError, match=said):
        PixelRule.from_json({"height": 28, "width": 28, "channels": 1, **change})


def test_auto_inverts_where_the_border_is_light_and_counts_it():
    dark, light = np.zeros((28, 28, 1), np.uint8), np.full((28, 28, 1), 250, np.uint8)
    dark[10:18, 10:18], light[10:18, 10:18] = 200, 10
    turned, count = invert(np.stack([dark, light]), "auto")
    assert count == 1
    assert np.array_equal(turned[0], dark)
    assert np.array_equal(turned[1], 255 - light)


def test_floats_are_inverted_around_one():
    turned, count = invert(np.full((1, 4, 4, 1), 0.75, np.float32), "yes")
    assert count == 1
    assert (turned == 0.25).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_become_bytes_rounded_half_to_even(kind):
    halves = (np.arange(255, dtype=kind) + kind(0.5)) / kind(255)
    values = np.concatenate([halves, np.nextafter(halves, kind(0)), np.nextafter(halves, kind(1)), [0, 1]]).astype(kind)
    values = np.concatenate([values, np.random.default_rng(0).random(1_000_000).astype(kind)])
    expected = np.rint(values * kind(255)).astype(np.uint8)
    for in_range in (True, False):
        assert np.array_equal(to_bytes(values, in_range=in_range), expected)
    out = np.empty(len(values), np.uint8)
    assert to_bytes(values, out) is out
    assert np.array_equal(out, expected)
    outside = np.array([-np.inf, -1, -0.0, 2, 1e30, np.inf], kind)
    assert to_bytes(outside).tolist() == [0, 0, 0, 255, 255, 255]
