"""Digits as PNG files, some of them broken."""

from pathlib import Path

from PIL import Image

from vae_serve.images import mnist


def write_digits(folder: Path, rows: int) -> None:
    """The first test digits in seven folders, 0/0000.png, 1/0001.png, ...; every hundredth is cut short."""
    for row, image in enumerate(mnist.load("test")[0][:rows]):
        file = folder / str(row % 7) / f"{row:04}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(file)
        if row % 100 == 99:
            file.write_bytes(file.read_bytes()[:80])
