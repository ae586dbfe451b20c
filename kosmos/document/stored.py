"""What shards keep: a document's JSON, a picture's file as it came, or a PNG of its pixels."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from kosmos.document.serialize import ImageFile, document_to_json
from kosmos.document.types import Document, ImageSource
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


class StoredDocument(NamedTuple):
    """A document as it is written."""

    text: bytes
    """Its JSON."""
    files: list[ImageFile]
    """What the JSON calls its pictures."""
    images: list[bytes]
    """The pictures, in that order."""


def stored_document(doc: Document, where: str) -> StoredDocument:
    """What is written of a document; image files and bytes as they are, others as PNG.

    Args:
        doc: The document.
        where: What to call it in a message.

    Raises:
        DataError: If it cannot be stored: an image is not one, a text holds what UTF-8 cannot.
    """
    files, images = [], []
    for number, image in enumerate(doc.images):
        data, extension = stored_image(image.source, f"{where}, image {number}")
        files.append(ImageFile(f"{number}.{extension}", len(data)))
        images.append(data)
    value = document_to_json(doc, files, where=where)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return StoredDocument(text.encode("utf-8"), files, images)


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
