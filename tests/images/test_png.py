import io

import numpy as np
import pytest
from PIL import Image

from vae_serve.images import png


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pillow_reads_back_every_pixel(channels, mode):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    with Image.open(io.BytesIO(png.encode(picture))) as read:
        assert (read.size, read.mode) == ((7, 5), mode)
        assert np.array_equal(np.asarray(read).reshape(picture.shape), picture)
