"""The hand-over directory and the snapshot file in it: who may have written there, and how a file is replaced.

What callers may rely on:

- The directory is ours alone: our user's, mode 0700, no symbolic link. A missing one is made, its parent is not.
- A file is read only if it is a plain file of our user's that nobody else may write.
- A file is replaced as a whole or not at all: written beside it, synced, renamed. One process writes at a time.

Everything here blocks and belongs in a thread.
"""

import fcntl
import os
import socket
import stat
import time
from contextlib import suppress
from typing import Self

from resolver.errors import BadSnapshot, HandoverFailed

SNAPSHOT = "cache.snapshot"
_NEW = "cache.snapshot.new"
_TRIES = 3

READ_BYTES = 256 * 1024

UNBORN_S = 60.0
"""A socket that does not listen after this was left by a process that was killed."""

_UNBORN = ".new"


class Directory:
    """An open directory that is ours alone. `fd` stays valid until `close`, whatever happens to its path."""

    def __init__(self, path: str) -> None:
        """Open `path`, or make it. Raises HandoverFailed with the remedy."""
        self.path = path
        try:
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise HandoverFailed(
                f"{path}: {error.strerror}; name a directory with -handover-dir whose parent exists"
            ) from None
        found = os.fstat(self.fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            os.close(self.fd)
            raise HandoverFailed(
                f"{path} belongs to user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):04o}, it must be"
                f" user {os.geteuid()}'s with mode 0700; run `chown {os.geteuid()} {path}; chmod 0700 {path}`,"
                " or name one that does not exist yet"
            )

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)

    def address(self, name: str) -> str:
        """Return an address of the Unix socket `name`: short whatever the path, and never another directory's."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def sockets(self, suffix: str) -> list[str]:
        """Return the names of our user's Unix sockets in it that end so, the last as names sort in front."""
        names = []
        for name in os.listdir(self.fd):
            with suppress(FileNotFoundError):  # gone meanwhile
                found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
                if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
                    continue
                if name.endswith(suffix):
                    names.append(name)
                elif name.endswith(suffix + _UNBORN) and found.st_mtime < time.time() - UNBORN_S:
                    self.remove(name)
        return sorted(names, reverse=True)

    def remove(self, name: str) -> None:
        """Remove `name`; gone is gone."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def listen(self, name: str, backlog: int) -> socket.socket:
        """Return a Unix socket that listens at `name`. It appears there when it does, not before.

        Raises OSError.
        """
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        early = name + _UNBORN
        try:
            made.bind(self.address(early))
            made.listen(backlog)
            os.rename(early, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError:
            made.close()
            self.remove(early)
            raise
        return made

    def open_snapshot(self) -> "SnapshotFile | None":
        """Return the snapshot file, or None if there is none. Raises BadSnapshot, OSError."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(SNAPSHOT, flags, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        found = os.fstat(fd)
        problem = ""
        if not stat.S_ISREG(found.st_mode):
            problem = "it is no plain file"
        elif found.st_uid != os.geteuid():
            problem = f"it belongs to user {found.st_uid}"
        elif found.st_mode & 0o022:
            problem = f"its mode is {stat.S_IMODE(found.st_mode):04o}, others may write it"
        if problem:
            os.close(fd)
            raise BadSnapshot(problem)
        return SnapshotFile(fd, found.st_size)


class SnapshotFile:
    """One snapshot file, open for reading."""

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._fd = fd

    def read(self) -> bytes:
        """Return the next READ_BYTES of it, nothing at its end."""
        return os.read(self._fd, READ_BYTES)

    def rewind(self) -> None:
        """Begin again."""
        os.lseek(self._fd, 0, os.SEEK_SET)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


class Replacement:
    """The next snapshot file while it is written: `write` it all, then `commit`, or `abandon` it."""

    def __init__(self, fd: int, directory: Directory) -> None:
        self._fd = fd
        self._directory = directory

    @classmethod
    def begin(cls, directory: Directory) -> Self | None:
        """Return one, or None while another process writes. Raises OSError.

        There is one name for unfinished files, so a process that is killed leaves one at most, and the next
        writer takes it over; the lock says whether somebody is at it.
        """
        for _ in range(_TRIES):
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(_NEW, flags, 0o600, dir_fd=directory.fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                named = os.stat(_NEW, dir_fd=directory.fd, follow_symlinks=False)
                if named.st_ino == os.fstat(fd).st_ino:
                    os.fchmod(fd, 0o600)
                    os.ftruncate(fd, 0)
                    return cls(fd, directory)
            except BlockingIOError:
                os.close(fd)
                return None
            except FileNotFoundError:
                pass
            except OSError:
                os.close(fd)
                raise
            os.close(fd)  # its writer has just given it its name: once more
        return None

    def write(self, data: bytes) -> None:
        """Append. Raises OSError."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def commit(self) -> None:
        """Make it the snapshot. Raises OSError, and then there is only the one from before."""
        try:
            os.fsync(self._fd)
            os.rename(_NEW, SNAPSHOT, src_dir_fd=self._directory.fd, dst_dir_fd=self._directory.fd)
        except OSError:
            self.abandon()
            raise
        os.close(self._fd)
        os.fsync(self._directory.fd)

    def abandon(self) -> None:
        """Remove it."""
        self._directory.remove(_NEW)
        os.close(self._fd)
