"""Plots show what there is to see."""

from vae_serve.evaluate import plots


def test_one_value_far_away_does_not_flatten_the_loss():
    history = [
        {"epoch": epoch, "loss": 150 - epoch / 10, "reconstruction": 144.0, "kl": 6 - epoch / 100}
        | {"val_loss": 1e7 if epoch == 30 else 151 - epoch / 10, "val_reconstruction": 145.0, "val_kl": 6.0}
        for epoch in range(1, 51)
    ]
    axes = plots.loss(history).axes[0]
    assert axes.get_ylim()[1] < 152
    assert [text.get_text() for text in axes.texts] == ["1 value up to 1e+07 not shown"]


def test_a_history_that_is_not_finite_is_drawn_as_far_as_it_is():
    history = [
        {"epoch": epoch, "loss": 1.0, "reconstruction": 2.0, "kl": float("inf"), "val_kl": float("nan")}
        for epoch in range(1, 13)
    ]
    axes = plots.loss(history).axes
    assert [text.get_text() for text in axes[2].texts] == ["22 values up to inf not shown"]
