"""Where a job writes to, opened and locked: a folder, or the objects below a URL.

A folder has the kernel's lock, which ends with its process. Objects have a lease (`storage.lease`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vae_serve.errors import OutputError
from vae_serve.jobs.plan import STATE
from vae_serve.storage.local import LocalStore
from vae_serve.storage.publish import settled

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place
    from vae_serve.storage.store import JobStore

Note = Callable[[str], None]

_ATTEMPTS = 3  # to open a folder that another run is just renaming or removing


def locked(place: "Place", note: Note) -> "JobStore":
    """The store at a place, which nobody else writes to. `note` is told when it has to wait.

    Raises:
        OutputError: another run is at work there, or it cannot be written to.
    """
    if isinstance(place, Path):
        return _locked_folder(settled(place))
    from vae_serve.storage.object_store import ObjectStore

    store = ObjectStore(place, STATE)
    store.lock(note)
    return store


def _locked_folder(folder: Path) -> LocalStore:
    for _ in range(_ATTEMPTS):
        try:
            store = LocalStore(folder, STATE)
        except (NotADirectoryError, FileExistsError):
            if folder.is_symlink():
                raise OutputError(
                    f"{folder} is a link, which is not followed; name what it leads to with --out"
                ) from None
            raise OutputError(f"{folder} is a file; --out names a folder") from None
        except OSError as error:
            raise OutputError(f"{folder} cannot be made: {error.strerror}") from error
        try:
            store.lock()
        except FileNotFoundError:
            store.close()
            continue
        except BlockingIOError:
            break
        except OSError as error:
            raise OutputError(f"{folder} cannot be locked: {error.strerror}") from error
        return store
    raise OutputError(f"another run is writing to {folder}; wait for it, or choose another --out")
