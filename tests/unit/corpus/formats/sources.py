"""Small sources of every container, and reading them."""

import base64
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet

from kosmos.corpus.formats.table import FORMATS, make_config
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.image.codec import encode_png
from kosmos.remote import AnyPath

_rng = np.random.default_rng(0)


def png(width: int = 80, height: int = 70, *, flat: bool = False) -> bytes:
    shape = (height, width, 3)
    pixels = np.full(shape, 9, np.uint8) if flat else _rng.integers(0, 256, shape, dtype=np.uint8)
    return encode_png(PIL.Image.fromarray(pixels))


PNG = png()


def read(format_name: str, source: AnyPath, **options: object) -> tuple[list[Document], Tally]:
    tally = Tally()
    config = make_config(format_name, values=options)
    docs = list(FORMATS[format_name].read(source, config, tally))
    assert tally.num_documents == len(docs)
    assert len({doc.id for doc in docs}) == len(docs)
    return docs, tally


def write_rows(path: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path: Path, rows: list[dict[str, object]], *, group: int = 2) -> Path:
    """Rows as a table, in row groups of a few."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def tsv_line(
    key: str, caption: str, picture: bytes = PNG, *more: str, size: tuple[int, int] = (80, 70)
) -> str:
    """A line as the release's preparation writes it: nothing is escaped."""
    columns = [key, caption, base64.b64encode(picture).decode(), *map(str, size), *more]
    return "\t".join(columns) + "\n"


def texts(doc: Document) -> list[str]:
    return [part.text for part in doc.parts if isinstance(part, Text)]


def grounded(doc: Document) -> list[tuple[str, int]]:
    return [(part.text, len(part.boxes)) for part in doc.parts if isinstance(part, Grounded)]


def outline(doc: Document) -> list[str]:
    """Texts, and the stems of pictures that are files."""
    return [
        Path(str(part.source)).stem if isinstance(part, Image) else part.text for part in doc.parts
    ]


def photos(folder: Path, count: int) -> str:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").write_bytes(PNG)
    return str(folder)
