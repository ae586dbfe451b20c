"""Documents in files: WebDataset tar shards, a manifest of checksums, an index of offsets.

::

    folder/
        manifest.json      format, counts, a SHA-256 for every file, where the documents came from
        index.npy          int64 [documents, 4]: shard, offset, JSON bytes, bytes to the end
        00000.tar          000000000.json        see document/serialize.py
                           000000000.0.jpg       its first image, the file as it came
                           000000000.1.png       its second
                           000000001.json
        00001.tar          ...

A member's key is the document's running number in the folder; the document's own id, which may
hold anything, is in the JSON. The tars are plain ustar and have no dates or owners in them, so the
same documents make the same bytes. Any WebDataset reader takes them.

A document is contiguous, hence one read: the index says where its JSON begins and where its last
image ends, and the JSON says how large each image is.

- :class:`ShardWriter` writes a folder that appears only when it is complete
- :class:`ShardReader` gives documents by number, and verifies
"""

import array
import json
import operator
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import SupportsIndex

import numpy as np

from kosmos.document import manifest as manifests
from kosmos.document.manifest import (
    INDEX,
    IndexFile,
    Manifest,
    Shard,
    read_manifest,
    write_manifest,
)
from kosmos.document.mirror import Mirror
from kosmos.document.serialize import checked_json, document_from_json, image_files
from kosmos.document.stored import StoredDocument, stored_document
from kosmos.document.tar import TarWriter, gap, read_at
from kosmos.document.types import Document
from kosmos.errors import ConfigError, DataError, os_error
from kosmos.files import Json, atomic_folder, sha256_file
from kosmos.remote import AnyPath, RemotePath, locate

_CHECKED_TOGETHER = 1 << 20
"""Rows of the index that are checked at once, so that checking takes little memory."""


class ShardWriter:
    """Write documents to a folder of shards; use it in a ``with`` statement.

    Documents stream to disk as they come. The folder appears, or replaces the one that was there,
    when the block ends; if the block or the disk fails, what was there before stays. Only shards
    are replaced, not a folder with anything else in it.

    Args:
        folder: Where the shards will be.
        documents_per_shard: Documents in each tar but the last.
        provenance: What made the documents, for the manifest: any JSON.

    Raises:
        ConfigError: If something else is at ``folder``.
        DataError: If the disk refuses, naming the file.
    """

    def __init__(
        self, folder: Path | str, *, documents_per_shard: int = 1000, provenance: Json = None
    ) -> None:
        if documents_per_shard <= 0:
            raise ConfigError(
                f"documents_per_shard: expected a positive number, found {documents_per_shard}"
            )
        self.folder = Path(folder)
        self._documents_per_shard = documents_per_shard
        self._provenance = checked_json(provenance, f"{folder}, provenance")
        self._index = array.array("q")
        self._ids: set[str] = set()
        self._shards: list[Shard] = []
        self._num_documents = 0
        self._tar: TarWriter | None = None
        self._refusal: DataError | None = None
        self._scratch: Path | None = None
        self._atomic = self._published()

    def __enter__(self) -> "ShardWriter":
        self._atomic.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._atomic.__exit__(kind, error, trace)

    def __len__(self) -> int:
        """Documents written so far."""
        return self._num_documents

    @property
    def is_broken(self) -> bool:
        """Whether the disk refused, so that nothing more can be written."""
        return self._refusal is not None

    def write(self, doc: Document) -> None:
        """Append a document, its images read and checked by their headers.

        Image files and bytes are stored as they are; PIL images and arrays as PNG. A document
        that is refused leaves no trace, so that a caller may count it and go on.

        Raises:
            DataError: If the id was written before, the document cannot be stored, an image is
                not one, or the disk refuses.
        """
        if self._scratch is None:
            raise DataError(f"{self.folder}: expected write() inside the writer's with block")
        if self._refusal is not None:
            raise self._refusal
        where = f"document {doc.id!r}" if doc.id else f"document {self._num_documents}"
        if doc.id and doc.id in self._ids:
            raise DataError(f"{self.folder}: expected unique document ids, found {doc.id!r} twice")
        self._append(stored_document(doc, where))
        if doc.id:
            self._ids.add(doc.id)

    @contextmanager
    def _published(self) -> Iterator[None]:
        """The block in which documents are written; what is written appears when it ends."""
        try:
            with atomic_folder(self.folder, check=manifests.check_shards) as self._scratch:
                try:
                    yield
                except OSError as error:
                    # atomic_folder would take it for the disk's
                    raise _CallersError(error) from error
                self._finish()
        except _CallersError as told:
            raise told.error from None
        finally:
            self._scratch = None
            if self._tar is not None:
                self._tar.discard()

    def _append(self, stored: StoredDocument) -> None:
        key = f"{self._num_documents:09d}"
        number = len(self._shards)
        with self._disk(manifests.shard_name(number)) as path:
            if self._tar is None:
                self._tar = TarWriter(path)
            begin = self._tar.add(f"{key}.json", stored.text)
            end = begin + len(stored.text)
            for file, data in zip(stored.files, stored.images, strict=True):
                end = self._tar.add(f"{key}.{file.name}", data) + len(data)
        self._index.extend((number, begin, len(stored.text), end - begin))
        self._num_documents += 1
        if self._num_documents % self._documents_per_shard == 0:
            self._close_shard()

    def _close_shard(self) -> None:
        tar, self._tar = self._tar, None
        if tar is None:
            return
        with self._disk(tar.name):
            tar.close()
        num_before = len(self._shards) * self._documents_per_shard
        self._shards.append(
            Shard(
                file=tar.name,
                sha256=tar.sha256,
                num_documents=self._num_documents - num_before,
                bytes=tar.num_bytes,
            )
        )

    def _finish(self) -> None:
        """Close the last shard, write the index and describe the folder in the manifest."""
        if self._refusal is not None:
            raise self._refusal
        self._close_shard()
        with self._disk(INDEX) as path, open(path, "wb") as file:
            index = np.array(self._index, np.int64).reshape(-1, 4)
            np.lib.format.write_array(file, index, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        with self._disk(manifests.FILE) as path:
            manifest = Manifest(
                num_documents=self._num_documents,
                index=IndexFile(sha256=sha256_file(path.with_name(INDEX))),
                shards=tuple(self._shards),
            )
            write_manifest(path.parent, manifest, self._provenance)

    @contextmanager
    def _disk(self, name: str) -> Iterator[Path]:
        """Where to write a file; if the disk refuses, nothing can be written any more."""
        assert self._scratch is not None
        try:
            yield self._scratch / name
        except OSError as error:
            hint = "earlier results are untouched; free some space or choose another folder"
            self._refusal = os_error(error, self.folder / name, act="written", hint=hint)
            raise self._refusal from error


class _CallersError(Exception):
    """Carries what the caller of a writer met in its block."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class ShardReader:
    """Documents of a folder that :class:`ShardWriter` wrote, by number.

    Holds no open files, so that it can be shared by threads, inherited by forks and pickled.
    Opening looks at the manifest, the index and the sizes of the shards; :meth:`verify` reads all.
    Shards of a remote folder are fetched into a local cache when they are first read (mirror.py).

    Args:
        folder: The folder of shards; text may name a remote one, such as ``s3://bucket/train``.

    Raises:
        DataError: If the folder is not one, or a file is missing or of another size than the
            manifest says.
    """

    def __init__(self, folder: AnyPath | str) -> None:
        self.folder = locate(folder)
        self._manifest, self.manifest = read_manifest(self.folder)
        self._mirror: Mirror | None = None
        if isinstance(self.folder, RemotePath):
            self._mirror = Mirror(self.folder, self._manifest)
        else:
            self._check_sizes(self.folder)
        self._index = self._read_index()

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[str]]:
        # another process maps the index itself
        return (ShardReader, (str(self.folder),))

    def _check_sizes(self, folder: Path) -> None:
        for shard in self._manifest.shards:
            path = folder / shard.file
            num_bytes = path.stat().st_size if path.is_file() else None
            if num_bytes != shard.bytes:
                found = "no file" if num_bytes is None else f"{num_bytes}"
                raise DataError(
                    f"{path}: expected {shard.bytes} bytes as in the manifest, found {found}"
                )

    def _file(self, name: str) -> Path:
        """A file of the folder on this machine."""
        return Path(str(self.folder), name) if self._mirror is None else self._mirror.file(name)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: SupportsIndex) -> Document:
        """The document with this number; its images are bytes.

        Raises:
            IndexError: If there is no such document.
            DataError: If its bytes are not those of a document.
        """
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(
                f"{self.folder}: expected a document below {len(self)}, found {number}"
            )
        number %= len(self)
        shard, offset, json_bytes, num_bytes = (int(v) for v in self._index[number])
        where, path = self.where(number), self._file(self._manifest.shards[shard].file)
        data = read_at(path, offset, num_bytes)
        try:
            value: Json = json.loads(data[:json_bytes])
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or too deep
            raise DataError(f"{where}: expected JSON, found {error}") from error
        images, begin = {}, json_bytes
        for file in image_files(value, where=where):
            begin += gap(begin)
            images[file.name] = data[begin : begin + file.num_bytes]
            begin += file.num_bytes
        if begin != len(data):
            raise DataError(f"{where}: expected {begin} bytes, found {len(data)}")
        return document_from_json(value, images, where=where)

    def where(self, number: int) -> str:
        """The shard of a document and its number, for messages."""
        file = self._manifest.shards[int(self._index[number, 0])].file
        return f"{self.folder / file}, document {number}"

    def __iter__(self) -> Iterator[Document]:
        return (self[number] for number in range(len(self)))

    @property
    def digest(self) -> str:
        """SHA-256 of what is in the folder, the provenance left out: equal documents, equal digest.

        It is that of the recorded checksums; :meth:`verify` compares those with the files.
        """
        return self._manifest.digest

    def verify(self) -> None:
        """Read every byte and compare it with the manifest and the index.

        Raises:
            DataError: At the first file that is missing, unknown or not as recorded.
        """
        recorded = self._manifest.checksums
        known = {manifests.FILE, *recorded}
        for path in sorted(self._file(INDEX).parent.iterdir()):
            if path.name not in known:
                raise DataError(f"{path}: expected only the files in the manifest, found this one")
        for name, expected in recorded.items():
            file = self._file(name)
            found = sha256_file(file)
            if found != expected:
                raise DataError(
                    f"{file}: expected SHA-256 {expected} as in the manifest, found {found}",
                    hint="the file was changed or damaged; make or copy the folder again",
                )
        self._verify_members()

    def _verify_members(self) -> None:
        """Compare the members of the tars, as any other reader sees them, with the index."""
        number = 0
        for shard, row in enumerate(self._manifest.shards):
            path = self._file(row.file)
            try:
                with tarfile.open(path, "r:") as tar:
                    offsets = [m.offset_data for m in tar if m.name.endswith(".json")]
            except tarfile.TarError as error:
                raise DataError(f"{path}: expected a tar file, found {error}") from error
            if len(offsets) != row.num_documents:
                raise DataError(
                    f"{path}: expected {row.num_documents} documents, found {len(offsets)}"
                )
            for offset in offsets:
                if (int(self._index[number, 0]), int(self._index[number, 1])) != (shard, offset):
                    raise DataError(
                        f"{self.folder / INDEX}: expected document {number} in shard {shard} "
                        f"at {offset}, found {self._index[number, :2].tolist()}"
                    )
                _ = self[number]
                number += 1

    def _read_index(self) -> np.ndarray:
        path = self._file(INDEX)
        count = self._manifest.num_documents
        try:
            # mapped, so that all processes of a machine share one copy: 32 bytes a document
            index: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"{path}: expected the index of the shards, found no file") from None
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: expected a numpy array, found {error}") from error
        if index.dtype != np.int64 or index.shape != (count, 4):
            raise DataError(
                f"{path}: expected int64 ({count}, 4) as in the manifest, "
                f"found {index.dtype} {index.shape}"
            )
        sizes = np.array([row.bytes for row in self._manifest.shards], np.int64)
        for start in range(0, count, _CHECKED_TOGETHER):
            if not _are_places(index[start : start + _CHECKED_TOGETHER], sizes):
                raise DataError(f"{path}: expected places inside the shards, found others")
        return index


def _are_places(rows: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether rows of the index lie inside shards of these sizes in bytes."""
    shard, offset, json_bytes, num_bytes = rows.T
    return bool(
        (rows >= 0).all()
        and (shard < len(sizes)).all()
        and (json_bytes <= num_bytes).all()
        and (offset + num_bytes <= sizes[shard]).all()
    )
