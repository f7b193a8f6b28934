"""A rename that never replaces what has the name already."""

import ctypes
import errno
import os
import stat
from functools import cache
from typing import Any

_NOREPLACE = 1  # RENAME_NOREPLACE of linux/fs.h
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}  # of the kernel, or of this file system


def rename_new(source: str, target: str, source_folder: int, target_folder: int) -> None:
    """Renames a file or folder, named relative to two open folders of one file system.

    Raises:
        FileExistsError: `target` is there; both stay.
        OSError: it cannot be renamed.
    """
    call = _renameat2()
    if call is not None:
        if call(source_folder, os.fsencode(source), target_folder, os.fsencode(target), _NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _UNSUPPORTED:
            raise OSError(code, os.strerror(code), target)
    _rename_portably(source, target, source_folder, target_folder)


def _rename_portably(source: str, target: str, source_folder: int, target_folder: int) -> None:
    """A file by a second link, which fails where the name is taken; a folder onto an empty one that was just made."""
    if stat.S_ISDIR(os.lstat(source, dir_fd=source_folder).st_mode):
        os.mkdir(target, dir_fd=target_folder)
        try:
            os.rename(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder)
        except OSError as error:  # something was put into it, or in its place, since
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
            raise
    else:
        os.link(source, target, src_dir_fd=source_folder, dst_dir_fd=target_folder, follow_symlinks=False)
        os.unlink(source, dir_fd=source_folder)


@cache
def _renameat2() -> Any:
    """The C library's function, where it has one (glibc 2.28, musl 1.2.6)."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call
