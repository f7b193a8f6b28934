"""How far two sets of outputs are apart, and where."""

import numpy as np
import pytest

from vae_serve.errors import ParityError
from vae_serve.model.parity import TOLERANCE, compare, difference, require


def test_small_values_are_compared_absolutely_and_large_ones_relatively():
    expected, actual = np.array([[0.5, -1.0, 40.0]]), np.array([[0.50001, -1.0, 40.004]])
    assert difference(expected, actual) == pytest.approx(np.array([[1e-5, 0, 1e-4]]))


def test_a_report_names_the_worst_element_with_both_values():
    expected = np.zeros((4, 2, 3), np.float32)
    actual = expected.copy()
    actual[2, 1, 0], actual[0, 0, 0] = 0.25, -0.125
    report = compare("image", expected, actual)
    assert (report.tensor, report.rows, report.index) == ("image", 4, (2, 1, 0))
    assert (report.largest, report.expected, report.actual) == (0.25, 0.0, 0.25)
    assert report.mean == pytest.approx(0.375 / 24)
    assert not report.equal


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_far(value):
    assert compare("z_mean", np.zeros((2, 2)), np.array([[0, 0], [0, value]])).largest == np.inf
    assert compare("z_mean", np.array([[value]]), np.array([[value]])).largest == np.inf


def test_the_percentile_leaves_out_one_in_a_thousand():
    actual = np.zeros((10_000, 1))
    actual[:5] = 0.5
    report = compare("z", np.zeros((10_000, 1)), actual)
    assert (report.largest, report.p999) == (0.5, 0.0)


def test_shapes_that_differ_and_nothing_at_all_are_errors():
    with pytest.raises(ParityError, match=r"z_mean: shape \(2, 1\) where \(1, 2\)"):
        compare("z_mean", np.zeros((1, 2)), np.zeros((2, 1)))
    with pytest.raises(ParityError, match="nothing to compare"):
        compare("z_mean", np.zeros((0, 2)), np.zeros((0, 2)))


def test_a_difference_above_the_tolerance_is_told_in_full():
    good = compare("image", np.array([[0.5]]), np.array([[0.5 + 0.9 * TOLERANCE]]))
    assert require(good, "decoder, ONNX") is good
    bad = compare("image", np.array([[0.5]]), np.array([[0.5 + 1.1 * TOLERANCE]]))
    with pytest.raises(
        ParityError, match=r"decoder, ONNX: image\[0, 0\] is 0.500011 where the trained model gives 0.5;"
    ):
        require(bad, "decoder, ONNX")
