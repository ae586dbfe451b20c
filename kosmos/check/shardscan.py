"""A folder of document shards read to the end whatever is wrong with it.

:class:`~kosmos.document.shards.ShardReader` refuses a folder at its first fault, as training must;
here every file is read once, front to back, hashed on the way, and what can be read of a damaged
one is handed on while the fault goes to the findings.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from kosmos.document.manifest import FILE, INDEX, Manifest, Shard, read_manifest
from kosmos.document.serialize import document_from_json
from kosmos.document.types import Document
from kosmos.errors import DataError
from kosmos.findings import Findings
from kosmos.remote import AnyPath

_CHUNK_BYTES = 1 << 20
_COPY_AGAIN = "the file was changed or damaged; make or copy the folder again"


class Scanned(NamedTuple):
    """A document and where it stands."""

    where: str
    doc: Document


class _Members(NamedTuple):
    """What a tar has of one document."""

    offset: int
    text: bytes
    images: dict[str, bytes]


class ShardScan:
    """A folder of shards, opened as far as its manifest.

    Raises:
        DataError: If there is no manifest, or it cannot be read.
    """

    def __init__(self, folder: AnyPath, findings: Findings, where: str) -> None:
        self.folder = folder
        self._findings = findings
        self._where = where
        self._manifest: Manifest = read_manifest(folder)[0]

    def __len__(self) -> int:
        """Documents that the manifest promises."""
        return self._manifest.num_documents

    @property
    def digest(self) -> str:
        """Of the contents, as the manifest records them."""
        return self._manifest.digest

    def __iter__(self) -> Iterator[Scanned]:
        """Documents that can be read, in order."""
        self._check_names()
        index = self._index()
        first = 0
        for number, shard in enumerate(self._manifest.shards):
            rows = None if index is None else index[first : first + shard.num_documents]
            yield from self._shard(number, shard, rows, first)
            first += shard.num_documents

    def _error(self, what: str, example: str, hint: str = "") -> None:
        self._findings.count("error", self._where, what, example, hint=hint)

    def _check_names(self) -> None:
        if not isinstance(self.folder, Path):
            return
        names = {path.name for path in self.folder.iterdir()}
        what = "files that the manifest does not know"
        hint = "no reader looks at them; take them out"
        for name in sorted(names - {FILE, *self._manifest.checksums}):
            self._findings.count("warning", self._where, what, name, hint=hint)

    def _index(self) -> np.ndarray | None:
        path = self.folder / INDEX
        count = self._manifest.num_documents
        try:
            with path.open("rb") as file:
                data = file.read()
            index: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
        except FileNotFoundError:
            self._error("files of the manifest that are missing", INDEX, _COPY_AGAIN)
            return None
        except (OSError, ValueError, EOFError, DataError) as error:
            self._error("an index that cannot be read", f"{INDEX}: {error}", _COPY_AGAIN)
            return None
        self._compare(INDEX, hashlib.sha256(data).hexdigest(), self._manifest.index.sha256)
        if index.dtype != np.int64 or index.shape != (count, 4):
            found = f"{INDEX}: expected int64 ({count}, 4), found {index.dtype} {index.shape}"
            self._error("an index that cannot be read", found, _COPY_AGAIN)
            return None
        return index

    def _compare(self, name: str, found: str, recorded: str) -> None:
        if found != recorded:
            self._error(
                "files of another SHA-256 than in the manifest",
                f"{name}: expected {recorded}, found {found}",
                _COPY_AGAIN,
            )

    def _shard(
        self, number: int, shard: Shard, index: np.ndarray | None, first: int
    ) -> Iterator[Scanned]:
        """Documents of one tar; what is wrong with it is told behind them."""
        num_read, broken = 0, ""
        try:
            with (self.folder / shard.file).open("rb") as file:
                hashed = _Hashed(file)
                try:
                    for members in _documents(hashed):
                        place = first + num_read
                        where = f"{shard.file}, document {place}"
                        if index is not None and num_read < len(index):
                            self._check_place(where, index[num_read], number, members)
                        num_read += 1
                        doc = self._parse(where, members)
                        if doc is not None:
                            yield Scanned(f"{where} ({doc.id!r})" if doc.id else where, doc)
                except tarfile.TarError as error:
                    broken = str(error)
                hashed.drain()
        except FileNotFoundError:
            self._error("files of the manifest that are missing", shard.file, _COPY_AGAIN)
            return
        except (OSError, DataError) as error:
            self._error("shards that cannot be read", f"{shard.file}: {error}", _COPY_AGAIN)
            return
        told = f"{num_read} of {shard.num_documents} documents can be read"
        if hashed.num_bytes != shard.bytes:
            kind = "truncated shards" if hashed.num_bytes < shard.bytes else "shards that grew"
            sizes = f"expected {shard.bytes} bytes, found {hashed.num_bytes}"
            self._error(kind, f"{shard.file}: {sizes}; {told}", _COPY_AGAIN)
            return
        self._compare(shard.file, hashed.sha256, shard.sha256)
        if broken or num_read != shard.num_documents:
            found = f"{shard.file}: {told}" + (f" ({broken})" if broken else "")
            self._error("shards that are no whole tar files", found, _COPY_AGAIN)

    def _check_place(self, where: str, row: np.ndarray, shard: int, members: _Members) -> None:
        if (int(row[0]), int(row[1])) != (shard, members.offset):
            self._error(
                "documents that the index has elsewhere",
                f"{where}: expected at {members.offset}, found shard {row[0]} at {row[1]}",
                _COPY_AGAIN,
            )

    def _parse(self, where: str, members: _Members) -> Document | None:
        try:
            return document_from_json(json.loads(members.text), members.images, where=where)
        except DataError as error:
            told = error.message
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or too deep
            told = f"{where}: {error}"
        self._error("documents that are not as the format says", told)
        return None


class _Hashed:
    """A file that hashes what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.num_bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def read(self, num_bytes: int) -> bytes:
        data = self._file.read(num_bytes)
        self._digest.update(data)
        self.num_bytes += len(data)
        return data

    def drain(self) -> None:
        while self.read(_CHUNK_BYTES):
            pass


def _documents(file: _Hashed) -> Iterator[_Members]:
    """Members that share a key, as they come.

    Raises:
        TarError: If the tar ends early or is none; what was whole before was handed on.
    """
    with tarfile.open(fileobj=file, mode="r|", bufsize=_CHUNK_BYTES) as tar:  # type: ignore[call-overload]
        here: _Members | None = None
        for member in tar:
            _, _, name = member.name.partition(".")
            data = tar.extractfile(member)
            content = b"" if data is None else data.read()
            if name == "json":
                if here is not None:
                    yield here
                here = _Members(member.offset_data, content, {})
            elif here is not None:
                here.images[name] = content
        if here is not None:
            yield here
