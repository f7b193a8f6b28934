"""What an opened source holds, as lists."""

from vae_serve.errors import ImageError
from vae_serve.sources.opening import open_source


def rows(source: object) -> dict[str, bytes | str]:
    """Each row's bytes, or the kind of its failure, by its path; the source's own names must be distinct."""
    opened = open_source(str(source))
    found = names_of(opened)
    assert len(set(found)) == len(found)
    return dict(zip(found, contents_of(opened), strict=True))


def labels(source: object) -> list[bytes | None]:
    """Each row's label."""
    opened = open_source(str(source))
    return opened.labels(range(opened.names.count)).texts()


def names_of(opened) -> list[str]:
    return [name.decode() for name in opened.names[range(opened.names.count)]]


def contents_of(opened) -> list[bytes | str]:
    return [row.kind if isinstance(row, ImageError) else row for row in opened.read(range(opened.names.count))]
