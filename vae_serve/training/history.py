"""The figures of each epoch, as a run stores them."""

import csv
import io
from pathlib import Path

import tensorflow as tf

Row = dict[str, float | int]


def to_tensorboard(folder: Path, row: Row) -> None:
    """Each figure under its name, training and validation as two lines of one chart, by epoch."""
    for line, prefix in (("train", ""), ("validation", "val_")):
        with tf.summary.create_file_writer(str(folder / line)).as_default(step=row["epoch"]):
            for name in ("loss", "reconstruction", "kl"):
                if prefix + name in row:
                    tf.summary.scalar(name, row[prefix + name])
            if not prefix:
                tf.summary.scalar("learning_rate", row["learning_rate"])


def as_csv(history: list[Row]) -> bytes:
    """One line for each epoch, below the names of the figures."""
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue().encode()
