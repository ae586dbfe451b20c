"""Pictures of records: found, decoded once to know that they are whole, and judged."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import PIL.Image

from kosmos.corpus.formats.archives import Archives, picture_key
from kosmos.corpus.formats.config import FolderConfig, PagesConfig, PictureConfig
from kosmos.corpus.formats.limits import MAX_RECORD_BYTES
from kosmos.corpus.formats.records import files_below
from kosmos.corpus.formats.tally import Tally
from kosmos.errors import DataError, ImageError
from kosmos.files import parse_json
from kosmos.image.codec import SUFFIXES, decode
from kosmos.remote import AnyPath, RemotePath, locate

_COCO_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?0*(\d+)(?:\.\w+)?")
_COCO_FULL_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?\d{12}(?:\.\w+)?")
_MAX_NAME_CHARS = 2048
_NO_FILE = "no file of the picture"
_NO_PICTURE = "no picture"
_OUTSIDE = "picture outside the folder of pictures"


class Picture(NamedTuple):
    """A picture that was found."""

    name: str
    """Of its file, or what a container calls it."""
    source: Path | bytes
    """For :class:`~kosmos.document.types.Image`."""
    size: tuple[int, int] = (0, 0)
    """Width and height in pixels, upright; of one that was decoded."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A picture that there is none of, or that is not to be taken."""

    name: str
    reason: str = _NO_FILE

    @classmethod
    def excluded(cls, name: str) -> "Missing":
        """One that the list of what to leave out names."""
        return cls(name, "picture of the list to leave out")

    @property
    def is_none(self) -> bool:
        """Whether the record itself has none."""
        return self.reason == _NO_PICTURE

    def count(self, tally: Tally, where: str) -> None:
        """Count a record that can do nothing without it."""
        is_bad = self.reason in (_OUTSIDE, _NO_PICTURE)
        (tally.bad if is_bad else tally.leave_out)(self.reason, where)


class PictureFolder:
    """Where the pictures of a source are.

    A record names files in it alone: what lies outside, by ``..``, as an absolute path or by a
    link, is refused. ``--images /`` is for whoever means that.

    Args:
        source: The file that names them.
        config: Says where to look and how, and what to leave out.
        tally: Takes folders that cannot be read.

    Raises:
        DataError: If the list of what to leave out is none.
    """

    def __init__(self, source: AnyPath, config: FolderConfig, tally: Tally) -> None:
        self.folder = locate(config.images) if config.images else source.parent
        self._archives = Archives(self.folder, like=source.stem)
        self.excluded = Exclusion(config.exclude_images)
        self._tally = tally
        self._root = self.folder.resolve() if isinstance(self.folder, Path) else Path()
        self._by_stem: dict[str, AnyPath] | None = None
        self._assigned: Iterator[AnyPath] | None = None
        if config.assign_images:
            files = files_below(self.folder, SUFFIXES, tally)
            if not files:
                raise DataError(f"{self.folder}: expected a folder of pictures, found none there")
            self._assigned = cycle([file for file in files if file.name not in self.excluded])

    def find(self, *names: str) -> Picture | Missing:
        """The picture of any of some file names, or the next one where pictures are assigned.

        A name without a folder is also looked for by its stem in the tars and Parquet files there.
        """
        if self._assigned is not None:
            return _opened(next(self._assigned)) or Missing(*names[:1])
        if any(name in self.excluded for name in names):
            return Missing.excluded(names[0])
        return self._located(names)

    def _located(self, names: Sequence[str]) -> Picture | Missing:
        inside = [name for name in names if self._is_inside(name)]
        # each name that is no file costs a request, a container is asked for once
        ways = [self._file, self._member]
        if isinstance(self.folder, RemotePath):
            ways.reverse()
        found = ways[0](inside) or ways[1](inside)
        return found or (Missing(names[0]) if inside == [*names] else Missing(names[0], _OUTSIDE))

    def find_key(self, key: str) -> Picture | Missing:
        """The picture that img2dataset keeps under a key: a file, or a member of a container."""
        shard = key[:5]  # img2dataset's folders are named by the key's first digits
        suffixes = (".jpg", ".png", ".webp")
        names = [f"{folder}{key}{s}" for folder in ("", f"{shard}/") for s in suffixes]
        # a key is a running number, and no picture's of COCO
        return self.find(*names) if self._assigned is not None else self._located(names)

    def find_url(self, url: str) -> Picture | Missing:
        """The picture that was at a URL: a file named as there, or by the URL's hash.

        The hash is SHA-256, MD5 or SHA-1 of the URL in UTF-8, in hexadecimal; the folder's files
        are listed once, and those of folders in it count.
        """
        if self._assigned is not None:
            return self.find(url)
        if self._by_stem is None:
            self._by_stem = {}
            for file in files_below(self.folder, SUFFIXES | {""}, self._tally):
                for stem in (file.stem, file.name):
                    self._by_stem.setdefault(stem, file)
        data = url.encode("utf-8", errors="replace")
        try:
            name = unquote(urlsplit(url).path.rpartition("/")[2])
        except ValueError:  # http://[x
            name = ""
        if url in self.excluded:
            return Missing.excluded(url)
        stems = [hashlib.new(kind, data).hexdigest() for kind in ("sha256", "md5", "sha1")]
        named = (self._by_stem.get(stem) for stem in (*stems, name, name.rpartition(".")[0]))
        path = next((path for path in named if path is not None), None)
        return (None if path is None else _opened(path)) or Missing(url)

    def _is_inside(self, name: str) -> bool:
        """Whether a name is one of a file in the folder, were there one."""
        if isinstance(self.folder, RemotePath):
            while (plain := unquote(name)) != name:  # as the server does, maybe more than once
                name = plain
            parts = re.split(r"[/\\]", name)
            return bool(parts[0] or not name) and ".." not in parts and "::" not in name
        try:
            return (self._root / name).resolve().is_relative_to(self._root)
        except (OSError, ValueError, RuntimeError):  # a NUL, or links in a circle
            return True

    def _file(self, names: Sequence[str]) -> Picture | None:
        found = (_opened(self.folder / name) for name in names if name)
        return next((picture for picture in found if picture is not None), None)

    def _member(self, names: Sequence[str]) -> Picture | None:
        for name in names:
            if (key := picture_key(name)) and (data := self._archives.find(key)) is not None:
                return Picture(name, data)
        return None


class Exclusion:
    """Pictures that are not to be trained on.

    Args:
        name: File that names them; empty for none.

    Raises:
        DataError: If there is no such file, or no name in it.
    """

    def __init__(self, name: str) -> None:
        self._lines = frozenset(_excluded(locate(name))) if name else frozenset()
        self._names = frozenset(_canonical(line) for line in self._lines if not _is_loose(line))

    def __contains__(self, picture: str) -> bool:
        if not self._names or len(picture) > _MAX_NAME_CHARS:
            return False
        if _is_loose(picture):
            return picture in self._lines
        return _canonical(picture) in self._names


def check_picture(source: bytes | Path, config: PictureConfig) -> str | PIL.Image.Image:
    """Decode a picture, so that no training step meets a broken one.

    Returns:
        The picture, or in few words why it cannot be used.
    """
    try:
        picture = decode(source, max_pixels=config.max_pixels)
    except ImageError:
        return "picture does not decode"
    return picture


def usable(
    picture: Picture | Missing, config: PictureConfig, tally: Tally, where: str
) -> Picture | None:
    """The picture, if it decodes; None, and the record counted, if there is none of use."""
    if isinstance(picture, Missing):
        picture.count(tally, where)
        return None
    if isinstance(decoded := check_picture(picture.source, config), str):
        tally.bad(decoded, where)
        return None
    return picture._replace(size=decoded.size)


def judge_picture(source: bytes | Path, config: PagesConfig) -> str | None:
    """Why a picture is of no use to an interleaved page, by KOSMOS-1's rules; None if it is."""
    picture = check_picture(source, config)
    if isinstance(picture, str):
        return picture
    if min(picture.size) < config.min_side_px:
        return f"picture with a side under {config.min_side_px} px"
    extrema = picture.getextrema()
    if all(low == high for low, high in extrema):  # type: ignore[misc]
        return "picture of a single color"
    return None


def _opened(path: AnyPath) -> Picture | None:
    """A file as a picture; a remote one is read here, as no shard could read it later."""
    if isinstance(path, RemotePath):
        try:
            with path.open() as file:
                data = file.read(MAX_RECORD_BYTES + 1)
        except FileNotFoundError:
            return None
        return Picture(path.name, data if len(data) <= MAX_RECORD_BYTES else b"")
    try:
        return Picture(path.name, path) if path.is_file() else None
    except OSError:  # a name that is too long
        return None


def _excluded(path: AnyPath) -> Iterator[str]:
    """The pictures that a file names."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a file that names pictures, found {error}") from error
    found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise DataError(f"{path}: expected names of pictures, found none")
    for line in found:
        name: object = line
        if line.startswith("{"):
            try:
                value = parse_json(line, where=str(path))
            except DataError:
                value = None
            name = value.get("file") if isinstance(value, dict) else None
        if not isinstance(name, str):
            raise DataError(f"{path}: expected a name or an object with 'file', found {line}")
        yield name.strip()


def _is_loose(name: str) -> bool:
    """Whether a name is known as a whole alone.

    42.jpg may be anything on the web, and 000000042 is a number that img2dataset gave.
    """
    last = _last_part(name)
    is_number = "." not in last and last.isdecimal()
    return ("://" in name or is_number) and _COCO_FULL_NAME.fullmatch(last) is None


def _last_part(name: str) -> str:
    part = name.strip().rpartition("/")[2]
    return part.partition("?")[0] if "://" in name else part


def _canonical(name: str) -> str:
    """A picture's file name, or its number if COCO names it so."""
    name = _last_part(name)
    coco = _COCO_NAME.fullmatch(name)
    return coco[1] if coco else name
