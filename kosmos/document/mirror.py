"""Shards that lie elsewhere, fetched file by file into a local cache when they are first read.

::

    ~/.cache/openkosmos/shards/        or the folder that KOSMOS_CACHE names, and shards/ in it
        <digest>/                      files of a folder of shards, by the digest of its contents
            index.npy                  whole and of the recorded SHA-256, or not there
            00000.tar
        <digest>.partial/              what is being fetched, and a lock for each file

A file is fetched once for all processes of a machine: the first to want it takes its lock, the
others wait. It takes its name only when its checksum is the manifest's, so that a kill, a full disk
or a connection that broke leaves nothing that could be mistaken for it. Folders of equal contents
share their files, wherever they lie; a folder that was written anew has another digest.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kosmos.document.manifest import Manifest
from kosmos.errors import DataError
from kosmos.locks import try_lock
from kosmos.remote import RemotePath

ATTEMPTS = 4
"""How often a file is asked for before it is given up."""
WAIT_S = 1.0
"""Before the second attempt; doubled before each one after it."""
_CHUNK_BYTES = 1 << 20

logger = logging.getLogger(__name__)


class Mirror:
    """The local copy of a remote folder of shards. Holds no open files.

    Args:
        folder: Where the shards are.
        manifest: What they are.
    """

    def __init__(self, folder: RemotePath, manifest: Manifest) -> None:
        self.folder = folder
        self.cache = cache_folder() / "shards" / manifest.digest
        self._checksums = manifest.checksums

    def file(self, name: str) -> Path:
        """The local copy of a file in the manifest, fetched if it is not there yet.

        Raises:
            DataError: If it cannot be fetched, is not what the manifest says, or the disk refuses.
        """
        path = self.cache / name
        if path.is_file():
            return path
        scratch = self.cache.with_name(f"{self.cache.name}.partial")
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            scratch.mkdir(exist_ok=True)
            with _lock(scratch / f"{name}.lock"):
                if not path.is_file():  # another process may have fetched it meanwhile
                    self._fetch(name, scratch / name)
                    os.replace(scratch / name, path)
        except OSError as error:
            raise DataError(
                f"{path}: could not be written: {error.strerror or error}",
                hint="KOSMOS_CACHE names another folder for what is fetched",
            ) from error
        return path

    def _fetch(self, name: str, partial: Path) -> None:
        """Copy a file, again if the connection breaks or the copy is not what was promised."""
        remote = self.folder / name
        for attempt in range(ATTEMPTS):
            try:
                found = _copy(remote, partial)
                if found == self._checksums[name]:
                    return
                raise DataError(
                    f"{remote}: expected SHA-256 {self._checksums[name]} as in the manifest, "
                    f"found {found}",
                    hint="the file was changed or damaged; make or copy the folder again",
                )
            except FileNotFoundError:
                raise DataError(f"{remote}: expected a file of the manifest, found none") from None
            except DataError as error:
                if attempt == ATTEMPTS - 1:
                    partial.unlink(missing_ok=True)
                    raise
                logger.warning("%s; attempt %d of %d", error, attempt + 2, ATTEMPTS)
                time.sleep(WAIT_S * 2**attempt)


def cache_folder() -> Path:
    """Where fetched files are kept: KOSMOS_CACHE, or openkosmos in the user's cache."""
    if named := os.environ.get("KOSMOS_CACHE"):
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "openkosmos"


def _copy(remote: RemotePath, path: Path) -> str:
    """Copy the bytes and return their SHA-256."""
    digest = hashlib.sha256()
    with remote.open() as source, open(path, "wb") as target:
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return digest.hexdigest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends."""
    with open(path, "ab") as file:
        try_lock(file.fileno(), path, wait=True)
        yield
