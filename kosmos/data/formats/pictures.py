"""Pictures of records: found, decoded once to know that they are whole, and judged."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import PIL.Image

from kosmos.data.formats.config import ImportConfig
from kosmos.data.formats.records import IMAGE_SUFFIXES, source_files
from kosmos.errors import ImageError
from kosmos.image.codec import decode


class PictureFolder:
    """Where the pictures of a source are.

    Args:
        source: The file that names them.
        config: ``images`` and ``assign_images`` say where to look and how.
    """

    def __init__(self, source: Path, config: ImportConfig) -> None:
        self.folder = Path(config.images) if config.images else source.parent
        self._assigned: Iterator[Path] | None = None
        if config.assign_images:
            self._assigned = cycle(source_files(self.folder, IMAGE_SUFFIXES))

    def find(self, name: str) -> Path | None:
        """The file of a picture, or the next one where pictures are assigned; None if absent."""
        if self._assigned is not None:
            return next(self._assigned)
        path = self.folder / name
        return path if path.is_file() else None


def check_picture(source: bytes | Path, config: ImportConfig) -> str | PIL.Image.Image:
    """Decode a picture, so that no training step meets a broken one.

    Returns:
        The picture, or in few words why it cannot be used.
    """
    try:
        picture = decode(source, max_pixels=config.image.max_pixels)
    except ImageError:
        return "picture does not decode"
    return picture


def judge_picture(source: bytes | Path, config: ImportConfig) -> str | None:
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
