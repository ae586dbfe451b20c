"""Pictures by key in the containers that img2dataset writes: tars, and Parquet with bytes.

Keys are read once, container by container, until the wanted one is found; the container that is
named as the source comes first, as ``00000.tar`` beside ``00000.parquet``. Where each picture lies
is held in memory, the pictures are not.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kosmos.corpus.formats.parquet import parquet_columns, parquet_files, parquet_keys
from kosmos.corpus.formats.tars import member_places
from kosmos.image.codec import SUFFIXES
from kosmos.remote import AnyPath

_COLUMNS = ("jpg", "jpeg", "png", "webp")


class _Place(NamedTuple):
    """Where a picture's bytes are: of a tar offset and size, of a table row group and row."""

    path: AnyPath
    column: str
    first: int
    second: int


class Archives:
    """The tars and Parquet files in a folder, those of folders in it left aside.

    Args:
        folder: Where they are; nothing is read before a picture is asked for.
        like: Stem of the one to look into first.
    """

    def __init__(self, folder: AnyPath, *, like: str) -> None:
        self._folder = folder
        self._like = like
        self._unread: Iterator[AnyPath] | None = None
        self._places: dict[str, _Place] = {}
        self._table: _Place | None = None
        self._rows: list[bytes | None] = []
        self._batches: Iterator[list[bytes | None]] = iter(())

    def find(self, key: str) -> bytes | None:
        """The bytes of the picture with a key; None if no container has one.

        Raises:
            DataError: If a container is damaged.
        """
        if self._unread is None:
            is_folder = self._folder.is_dir()
            paths: Iterable[AnyPath] = self._folder.iterdir() if is_folder else ()
            found = sorted((p for p in paths if p.suffix in (".tar", ".parquet")), key=str)
            self._unread = iter(sorted(found, key=lambda path: path.stem != self._like))
        while key not in self._places:
            path = next(self._unread, None)
            if path is None:
                return None
            places = _tar_places(path) if path.suffix == ".tar" else _table_places(path)
            for name, place in places:
                self._places.setdefault(name, place)
        return self._read(self._places[key])

    def _read(self, place: _Place) -> bytes | None:
        if not place.column:
            with place.path.open("rb") as file:
                file.seek(place.first)
                return file.read(place.second)
        begin = self._table
        if begin is None or begin[:3] != place[:3] or place.second < begin.second:
            # rows are asked for in order, mostly
            begin, self._rows = place._replace(second=0), []
            self._batches = parquet_files(place.path, place.first, place.column)
        while place.second >= begin.second + len(self._rows):
            begin = begin._replace(second=begin.second + len(self._rows))
            self._rows = next(self._batches)
        self._table = begin
        return self._rows[place.second - begin.second]


def picture_key(name: str) -> str:
    """What a container knows a picture by: its file's name, less the ending of a picture."""
    base = name.rpartition("/")[2]
    stem, dot, ending = base.rpartition(".")
    return stem if dot + ending.lower() in SUFFIXES else base


def _tar_places(path: AnyPath) -> Iterator[tuple[str, _Place]]:
    for name, offset, size in member_places(path):
        if (key := picture_key(name)) != name.rpartition("/")[2]:
            yield key, _Place(path, "", offset, size)


def _table_places(path: AnyPath) -> Iterator[tuple[str, _Place]]:
    columns = parquet_columns(path)
    column = next((name for name in _COLUMNS if name in columns), None)
    if column is None or "key" not in columns:
        return
    for group, keys in enumerate(parquet_keys(path, "key")):
        for row, key in enumerate(keys):
            yield key, _Place(path, column, group, row)
