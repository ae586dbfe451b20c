"""What shards keep of a picture: the file as it came, or a PNG of what is in memory."""

import sys
from pathlib import Path

from kosmos.document.types import ImageSource
from kosmos.image.codec import decode, encode_png, image_format, read_encoded

_EXTENSIONS = {
    "JPEG": "jpg",
    "PNG": "png",
    "GIF": "gif",
    "WEBP": "webp",
    "BMP": "bmp",
    "TIFF": "tif",
    "PPM": "ppm",
    "AVIF": "avif",
    "JPEG2000": "jp2",
}


def stored_image(source: ImageSource, where: str) -> tuple[bytes, str]:
    """The file of a picture and the extension it deserves, whatever it was called.

    Args:
        source: A path, encoded bytes, a PIL image or an array.
        where: What to call the picture in a message.

    Raises:
        ImageError: If it cannot be read or is no picture, by its header.
    """
    if isinstance(source, str | Path):
        data, where = read_encoded(source, where=f"{where}: {source}"), f"{where}: {source}"
    elif isinstance(source, bytes):
        data = source
    else:
        # these are in memory already: too late to refuse them for their size
        return encode_png(decode(source, max_pixels=sys.maxsize, where=where)), "png"
    return data, _EXTENSIONS[image_format(data, where=where)]
