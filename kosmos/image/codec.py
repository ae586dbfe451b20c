"""Bytes to pictures and back; every way in which bytes can fail to be a picture is an ImageError.

- :func:`decode` gives an upright RGB picture, :func:`image_size` its size without decoding it,
  :func:`orientation` how it is turned
- :func:`image_format` names the file format of encoded bytes, :func:`read_encoded` reads them
- :func:`encode_png`, :func:`encode_jpeg` write one
- :data:`SUFFIXES`, :data:`UNREAD_SUFFIXES`: how names of picture files end

What the pictures of the world become::

    EXIF orientation      applied; metadata that cannot be read means upright
    transparency          composited on white, whether alpha, palette or color key
    grey, palette, 1-bit  RGB
    CMYK, YCbCr           RGB by Pillow's arithmetic; color profiles are not applied
    16 bits a channel     the high byte, for grey as for color
    floating point        refused: nothing says what is white
    animation             the first frame

The Hugging Face processor differs in the first two: it expects its caller to rotate, and it drops
alpha, which shows whatever color the transparent pixels hid.
"""

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image
import PIL.TiffImagePlugin
from PIL.Image import Transpose

from kosmos.errors import ImageError

Source: TypeAlias = str | Path | bytes | PIL.Image.Image | np.ndarray

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
"""What is tried. Pillow knows more, among them some that start other programs (EPS)."""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c"}
)
"""How names of files in these formats end, in small or capital letters."""
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf"}
)
"""How names of photos end that are not read: whoever takes what is in a folder counts them."""

MAX_FILE_BYTES = 256 << 20
"""Files that are larger are no pictures: no corpus has one that comes near."""
_PIXEL_BYTES = {"CMYK": 8, "I": 18, "F": 18} | dict.fromkeys(("I;16", "I;16L", "I;16B"), 9)
"""What a pixel takes while it becomes RGB, where that is more than the usual; measured."""
_TRANSPARENT_BYTES = 17
_USUAL_BYTES = 6
_ORIENTATION_TAG = 0x0112
_UPRIGHT_BY = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def decode(source: Source, *, max_pixels: int, where: str = "") -> PIL.Image.Image:
    """Decode a picture to upright RGB.

    Args:
        source: A path, encoded bytes, a PIL image, or a uint8 array (height, width, 3).
        max_pixels: Pictures with more are refused by their header, before any pixel is decoded;
            of 16 bits or with transparency, which take up to three times the memory, accordingly
            fewer are allowed.
        where: What the picture belongs to, for the message.

    Returns:
        The picture without metadata. A PIL image that is RGB and upright already is returned
        as it is, not copied.

    Raises:
        ImageError: If the source is missing, empty, not a picture, truncated, too large, or of a
            mode that has no meaning in RGB.
    """
    with _opened(source, where) as (picture, label):
        pixel_bytes = _PIXEL_BYTES.get(picture.mode, _USUAL_BYTES)
        if picture.has_transparency_data:
            pixel_bytes = _TRANSPARENT_BYTES
        limit = max_pixels * _USUAL_BYTES // pixel_bytes
        if picture.width * picture.height > limit:
            raise ImageError(
                f"{label}: expected at most {limit} pixels, "
                f"found {picture.width} x {picture.height} ({picture.mode})",
                hint="image.max_pixels sets the limit",
            )
        method = _UPRIGHT_BY.get(_orientation(picture))
        picture.load()
        rgb = _to_rgb(picture, label)
        if method is not None:
            rgb = rgb.transpose(method)
    if rgb is not source:
        # or else a second decode would turn the picture again
        rgb.info = {}
    return rgb


def image_size(source: Source, *, where: str = "") -> tuple[int, int]:
    """Width and height of a picture once it is upright, read from its header.

    Raises:
        ImageError: If the source is missing or its header is not a picture's.
    """
    with _opened(source, where) as (picture, _):
        sideways = _orientation(picture) in _SIDEWAYS
        return (picture.height, picture.width) if sideways else picture.size


def orientation(source: Source, *, where: str = "") -> int:
    """How EXIF turns a stored picture upright, 1 to 8; 1 if it does not.

    Raises:
        ImageError: If the source is missing or its header is not a picture's.
    """
    with _opened(source, where) as (picture, _):
        return _orientation(picture)


def image_format(data: bytes, *, where: str = "") -> str:
    """Pillow's name of the format of encoded bytes, one of :data:`FORMATS`, by the header.

    Raises:
        ImageError: If the header is not a picture's.
    """
    with _opened(data, where) as (picture, _):
        # a JPEG with several pictures in it (3D, depth) is to everybody else a JPEG
        return "JPEG" if picture.format == "MPO" else str(picture.format)


def read_encoded(path: str | Path, *, where: str) -> bytes:
    """The bytes of a file, to be decoded.

    Args:
        path: The file.
        where: What to call it in the message.

    Raises:
        ImageError: If it cannot be read.
    """
    try:
        with _regular(path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise _missing(path, where) from error
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise ImageError(
            f"{where}: expected a picture, found {type(error).__name__}: {error}"
        ) from error


def encode_png(picture: PIL.Image.Image) -> bytes:
    """The picture as PNG: no pixel changes."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def encode_jpeg(picture: PIL.Image.Image, *, quality: int = 90) -> bytes:
    """The picture as JPEG.

    Args:
        picture: An RGB or grey picture.
        quality: 1 to 95. The released demo saves what it is given at 75 before it looks at it;
            its published outputs can only be had by doing the same.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


@contextmanager
def _opened(source: Source, where: str) -> Iterator[tuple[PIL.Image.Image, str]]:
    """A picture with its header read and what to call it; whatever goes wrong is an ImageError."""
    is_path = isinstance(source, str | Path)
    label = ": ".join(filter(None, (where, str(source) if is_path else ""))) or "image"
    with _quiet_pillow():
        try:
            if isinstance(source, PIL.Image.Image):
                picture = source
            elif isinstance(source, np.ndarray):
                picture = _from_array(source, label)
            elif isinstance(source, bytes):
                picture = _open(io.BytesIO(source), len(source), label)
            elif isinstance(source, str | Path):
                with _regular(source) as file:
                    picture = _open(file, os.fstat(file.fileno()).st_size, label)
                    yield _non_empty(picture, label), label
                return
            else:
                raise ImageError(
                    f"{label}: expected a path, bytes, a PIL image or an array, "
                    f"found {type(source).__name__}"
                )
            yield _non_empty(picture, label), label
        except ImageError:
            raise
        except FileNotFoundError as error:
            raise _missing(source, label) from error
        except PIL.Image.DecompressionBombError as error:
            raise ImageError(
                f"{label}: expected a picture of reasonable size, found {error}",
                hint="Pillow has a limit of its own, PIL.Image.MAX_IMAGE_PIXELS",
            ) from error
        except Exception as error:
            # hostile bytes lead Pillow's readers to raise nearly anything: OSError, SyntaxError,
            # ValueError, struct.error, zlib.error, EOFError, KeyError, MemoryError
            raise ImageError(
                f"{label}: expected a whole picture, found {type(error).__name__}: {error}"
            ) from error


def _regular(path: str | Path) -> io.BufferedReader:
    """A file to read; whatever else has a name is refused, since a pipe would be waited for."""
    # where there is no such flag there are no such pipes
    wait_not = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | wait_not))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("expected a regular file, found a pipe or a device")
    if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
        file.close()
        raise OSError(f"expected at most {MAX_FILE_BYTES >> 20} MiB, found more")
    return file


def _missing(source: object, label: str) -> ImageError:
    is_address = re.match(r"\w+://|data:", str(source))
    hint = "addresses are not fetched; pass the bytes behind them" if is_address else None
    return ImageError(f"{label}: expected a picture, found no such file", hint=hint)


def _open(file: io.BufferedIOBase, num_bytes: int, label: str) -> PIL.Image.Image:
    if num_bytes == 0:
        raise ImageError(f"{label}: expected a picture, found zero bytes")
    try:
        return PIL.Image.open(file, formats=FORMATS)  # type: ignore[arg-type]
    except PIL.UnidentifiedImageError as error:
        file.seek(0)
        head = file.read(16)
        raise ImageError(
            f"{label}: expected a picture ({', '.join(FORMATS)}), "
            f"found {num_bytes} bytes starting with {head!r}"
        ) from error


def _from_array(array: np.ndarray, label: str) -> PIL.Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ImageError(
            f"{label}: expected a uint8 array (height, width, 3), "
            f"found {array.dtype} {array.shape}",
            hint="fractions are scaled first: (array * 255).round().astype('uint8')",
        )
    if array.size == 0:
        raise ImageError(f"{label}: expected at least one pixel, found an array {array.shape}")
    return PIL.Image.fromarray(np.ascontiguousarray(array))


def _non_empty(picture: PIL.Image.Image, label: str) -> PIL.Image.Image:
    if min(picture.size) <= 0:
        raise ImageError(
            f"{label}: expected at least one pixel, found {picture.width} x {picture.height}"
        )
    return picture


def _orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation still to be applied, 1 to 8, from what precedes the pixels."""
    if isinstance(picture, PIL.TiffImagePlugin.TiffImageFile):
        return 1  # Pillow turns TIFF itself, and gives its size turned
    try:
        # the base class's: PNG's own decodes all pixels to look for EXIF behind them
        value = PIL.Image.Image.getexif(picture).get(_ORIENTATION_TAG, 1)
    except Exception:
        # a broken EXIF block raises anything; browsers show such pictures as they are
        return 1
    return value if value in _UPRIGHT_BY else 1


def _to_rgb(picture: PIL.Image.Image, label: str) -> PIL.Image.Image:
    mode = picture.mode
    if mode == "F":
        raise ImageError(
            f"{label}: expected whole numbers, found floating point pixels",
            hint="scale them to 8 bits first",
        )
    if mode == "I" or mode.startswith("I;16"):
        return _from_16_bits(picture, label)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            white = PIL.Image.new("RGBA", rgba.size, (255, 255, 255, 255))
            rgba = PIL.Image.alpha_composite(white, rgba)
        return rgba.convert("RGB")
    return picture if mode == "RGB" else picture.convert("RGB")


def _from_16_bits(picture: PIL.Image.Image, label: str) -> PIL.Image.Image:
    """Grey of 16 bits, which Pillow keeps as it is, by its high byte, as Pillow takes color."""
    # in the picture's own type: a second copy of 64 bits would be the largest thing in memory
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError(
            f"{label}: expected grey values of 16 bits, found {values.min()} to {values.max()}",
            hint="scale them to 8 bits first",
        )
    grey = (values >> 8).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 0xFF
    return PIL.Image.fromarray(grey).convert("RGB")


class _QuietPillow:
    """Silences warnings raised inside Pillow while any thread is decoding.

    Pillow warns about odd metadata and large pictures; we either raise or carry on. A
    ``warnings.catch_warnings`` per call would be wrong with several threads: two that overlap can
    restore each other's filters and silence the whole process for good. One filter, for Pillow
    only, is put in by the first to enter and taken out by the last to leave.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._filter = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

    def __enter__(self) -> None:
        with self._lock:
            self._depth += 1
            # somebody else's catch_warnings may have taken the filter with it
            if self._filter not in warnings.filters:
                warnings.filters.insert(0, self._filter)  # type: ignore[attr-defined]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._filter in warnings.filters:
                warnings.filters.remove(self._filter)  # type: ignore[attr-defined]


_QUIET_PILLOW = _QuietPillow()


def _quiet_pillow() -> _QuietPillow:
    return _QUIET_PILLOW
