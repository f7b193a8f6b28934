"""Images and labels for training: arrays as they are stored, and pictures of any source of `embed`, decoded.

A picture that cannot be trained on is refused here by its name: in training it is an error, not a row.
"""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vae_serve.errors import ImageError, SourceError
from vae_serve.images.decode import Decoder
from vae_serve.images.pixels import Decode, PixelRule
from vae_serve.sources import arrays, names, opening
from vae_serve.sources.files import Pictures
from vae_serve.sources.names import shown
from vae_serve.training.array_files import Labelled, Labels, Note, as_bytes, from_npy, from_npz, resized
from vae_serve.training.own_output import not_own

IN_MEMORY = 1 << 30  # bytes of decoded pictures; more are kept in a temporary file and mapped
AT_ONCE = 1024  # pictures asked for together

GREY_MODES = ("1", "L", "LA", "I", "F")  # of Pillow, and those that begin with I;16

Bytes = npt.NDArray[np.uint8]
Size = tuple[int, int, int | None]  # height, width, and channels if they are given


@dataclass(frozen=True)
class Fit:
    """What the images of a source are made to fit."""

    size: Size | None = None  # arrays and pictures are resized to it; None: all must have one size
    rule: PixelRule | None = None  # of a model that is there: decides over pictures, whatever the others say
    decode: Decode = "scaled"  # of the rule that is made for pictures


def source(name: str, fit: Fit, note: Note) -> tuple[Labelled, Labelled | None]:
    """The training set at a path, and its test set where the source has one.

    Raises:
        SourceError: it is not there, or cannot be trained on.
    """
    path = Path(name)
    if path.is_dir():
        files = [sorted(path.glob(f"{stem}-images*-ubyte*")) for stem in ("train", "t10k")]
        if files[0]:
            parts = [str(here[0]) for here in files if here]
        elif (path / "train").is_dir() and (path / "test").is_dir():
            parts = [str(path / "train"), str(path / "test")]
        else:
            parts = [name]
        sets = _opened(parts, fit, note)
        return sets[0], sets[1] if len(sets) > 1 else None
    file, _, key = name.rpartition(":")
    if file.endswith(".npz") and not path.exists():
        train, test = from_npz(Path(file), key, note)
    elif path.suffix == ".npz":
        train, test = from_npz(path, "", note)
    elif path.suffix == ".npy":
        train, test = from_npy(path, note), None
    else:
        return _opened([name], fit, note)[0], None
    return _resized(train, fit), None if test is None else _resized(test, fit)


def _resized(part: Labelled, fit: Fit) -> Labelled:
    return part if fit.size is None else Labelled(resized(part.images, fit.size, room), part.labels)


def _opened(parts: list[str], fit: Fit, note: Note) -> list[Labelled]:
    """Sources that `embed` reads. One rule for all parts: the test pictures must come out as the training pictures."""
    sources = [opening.open_source(part) for part in parts]
    labelled: dict[int, Labelled] = {}
    pictures: dict[int, _Part] = {}
    for number, (name, opened) in enumerate(zip(parts, sources, strict=True)):
        if isinstance(opened, arrays.Arrays):
            every = range(opened.names.count)
            images = as_bytes(opened[every], opened.where, note)
            labelled[number] = _resized(Labelled(images, _as_text(opened.labels(every))), fit)
        else:
            pictures[number] = _Part(name, opened, note)
    if pictures:
        rule = fit.rule or _common_rule(list(pictures.values()), fit, note)
        one_size = fit.rule is None and fit.size is None
        labelled |= {number: _decoded(part, rule, one_size) for number, part in pictures.items()}
    return [labelled[number] for number in range(len(parts))]


class _Part:
    """The pictures of one source, without those that vae-serve wrote itself."""

    def __init__(self, name: str, pictures: Pictures, note: Note) -> None:
        self.name, self._pictures = name, pictures
        self._kept = np.ones(pictures.names.count, bool)
        if pictures.kind == "folder":
            self._kept, own = not_own(Path(name), pictures.names[range(pictures.names.count)])
            if own:
                counts = ", ".join(f"{count:,} in {kind}" for kind, count in sorted(own.items()))
                note(f"{name}: left out {own.total():,} pictures that vae-serve wrote itself ({counts})")
        if pictures.skipped:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(pictures.skipped.items()))
            note(f"{name}: passed over {pictures.skipped.total():,} ({reasons})")
        self.count = int(self._kept.sum())
        if not self.count:
            raise SourceError(f"{name} holds no pictures but those that vae-serve wrote itself; name another folder")

    def read(self) -> Iterator[tuple[str, bytes]]:
        """Each picture's name and its file's contents, in order.

        Raises:
            SourceError: one cannot be read; names it.
        """
        pictures = self._pictures
        for start in range(0, pictures.names.count, AT_ONCE):
            rows = range(start, min(start + AT_ONCE, pictures.names.count))
            for row, file, contents in zip(rows, pictures.names[rows], pictures.read(rows), strict=True):
                if self._kept[row]:
                    if isinstance(contents, ImageError):
                        raise self.refused(shown(file), contents)
                    yield shown(file), contents

    def refused(self, file: str, error: ImageError) -> SourceError:
        """The error of a picture that cannot be trained on."""
        return SourceError(f"{self.name}: {file} cannot be trained on: {error}; remove it, or mend it")

    def labels(self) -> Labels | None:
        """What the pictures show, in order; None where it is not known of all."""
        return _as_text(self._pictures.labels(range(self._pictures.names.count)), self._kept)


def _common_rule(parts: list[_Part], fit: Fit, note: Note) -> PixelRule:
    """The rule for all pictures: of the first one's size unless `fit` says one, grey where all of them are."""
    size = fit.size
    if size is not None and size[2] is not None:
        return PixelRule(size[0], size[1], size[2], decode=fit.decode)
    first: tuple[int, int] | None = None
    grey = 0
    first_colour = ""
    for part in parts:
        for file, contents in part.read():
            try:
                shape, is_grey = _header(contents)
            except ImageError as error:
                raise part.refused(file, error) from error
            first = first or shape
            grey += is_grey
            first_colour = first_colour or ("" if is_grey else file)
    if first is None:
        raise SourceError(f"{parts[0].name} holds no pictures")
    if first_colour and grey:
        note(
            f"{parts[0].name}: {grey:,} grey pictures beside pictures in colour ({first_colour} is the first): all get "
            f"3 channels; --image-size {_text(size[:2] if size else first)}x1 makes all grey"
        )
    height, width = size[:2] if size else first
    return PixelRule(height, width, 3 if first_colour else 1, decode=fit.decode)


def _header(contents: bytes) -> tuple[tuple[int, int], bool]:
    """Height and width of an encoded picture once it is turned as its EXIF says, and whether it is grey.

    Raises:
        ImageError: it is none.
    """
    import warnings

    from PIL import Image

    from vae_serve.images import pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF blocks and the like; the decoder judges
        try:
            with Image.open(io.BytesIO(contents), formats=pillow.FORMATS) as image:
                width, height = image.size
                try:
                    turned = image.getexif().get(0x0112, 1) in range(5, 9)
                except Exception:  # noqa: BLE001  a damaged EXIF block does not cost the picture
                    turned = False
                grey = image.mode in GREY_MODES or image.mode.startswith("I;16")
        except Exception as error:  # a decoder over any bytes raises anything
            raise ImageError("damaged", f"it cannot be decoded: {error}") from error
    return ((width, height) if turned else (height, width)), grey


def _decoded(part: _Part, rule: PixelRule, one_size: bool) -> Labelled:
    """Decoded by a rule; shuffled, always alike: a part of a sorted folder is of few classes."""
    place = np.random.Generator(np.random.Philox(key=[0, 0])).permutation(part.count)
    decoder, images = Decoder(rule), room((part.count, *rule.shape))
    size = (rule.width, rule.height)
    for row, (file, contents) in enumerate(part.read()):
        try:
            picture = decoder(contents)
        except ImageError as error:
            raise part.refused(file, error) from error
        if one_size and picture.size != size:
            text = _text((rule.height, rule.width))
            raise SourceError(
                f"{part.name} holds two sizes: the first picture is {text}, {file} is "
                f"{_text(picture.size[::-1])}; give --image-size {text} to make them fit"
            )
        images[place[row]] = picture.pixels
    labels = part.labels()
    return Labelled(images, None if labels is None else labels[np.argsort(place)], rule.decode)


def _text(size: tuple[int, int]) -> str:
    """HxW."""
    return f"{size[0]}x{size[1]}"


def _as_text(labels: names.Labels, kept: npt.NDArray[np.bool_] | slice = slice(None)) -> Labels | None:
    codes = labels.codes[kept]
    if codes.min() < 0:
        return None
    return np.array([category.decode() for category in labels.categories])[codes]


def room(shape: tuple[int, ...]) -> Bytes:
    """Bytes for so many pixels, in memory or, where they are many, in a temporary file."""
    if np.prod(shape, dtype=np.int64) <= IN_MEMORY:
        return np.empty(shape, np.uint8)
    with tempfile.TemporaryFile() as file:  # the mapping keeps it alive
        return np.memmap(file, np.uint8, "w+", shape=shape)
