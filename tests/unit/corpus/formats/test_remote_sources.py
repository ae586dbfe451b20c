"""Sources elsewhere give the documents that they give here."""

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from kosmos.corpus.formats.table import make_config
from kosmos.corpus.importing import import_corpus
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document, Image
from kosmos.errors import DataError
from kosmos.remote import AnyPath, locate
from tests.unit.corpus.formats.sources import (
    PNG,
    photos,
    png,
    read,
    tsv_line,
    write_parquet,
    write_rows,
    write_tar,
)
from tests.unit.spring.test_remote import served

SPANS = [[0, 5, 0.1, 0.1, 0.5, 0.5, 0.9]]


def fill(folder: Path) -> dict[str, tuple[str, str]]:
    """A source of each format, by format: its name and its folder of pictures."""
    photos(folder / "p", 2)
    write_rows(folder / "text.jsonl", {"text": "One."})
    (folder / "prose.txt").write_text("One.\n\nTwo.")
    write_parquet(folder / "text.parquet", [{"text": "One."}, {"text": "Two."}])
    (folder / "pairs").mkdir()
    write_tar(folder / "pairs" / "0.tar", {"0.png": PNG, "0.txt": b"x"})
    (folder / "pairs" / "1.tsv").write_text(tsv_line("0a", "a dog"))
    row = {"key": "1", "caption": "a dog", "ref_exps": SPANS}
    write_rows(folder / "grit.jsonl", {**row, "file": "0.png"})
    (folder / "keyed").mkdir()
    write_parquet(folder / "keyed" / "0.parquet", [row])
    write_tar(folder / "keyed" / "0.tar", {"1.jpg": png()})
    page = {"images": ["https://h/0.png", None], "texts": [None, "x"], "general_metadata": "{}"}
    write_parquet(folder / "pages.parquet", [page])
    talk = {"image": "1.png", "instruction": "What?", "output": "That."}
    (folder / "talk.json").write_text(json.dumps([talk]))
    return {
        "jsonl": ("text.jsonl", ""),
        "text": ("prose.txt", ""),
        "parquet": ("text.parquet", ""),
        "pairs": ("pairs", ""),
        "grit": ("grit.jsonl", "p"),
        "grit-instructions": ("keyed/0.parquet", ""),
        "obelics": ("pages.parquet", "p"),
        "llava": ("talk.json", "p"),
    }


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A folder of sources, and where else it lies."""
    folder = tmp_path_factory.mktemp("sources")
    fill(folder)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/test-sources", recursive=True)
    with served(folder) as url:
        yield folder, ["memory://test-sources", url]
    memory.rm("/test-sources", recursive=True)


FORMATS = ["jsonl", "text", "parquet", "pairs", "grit", "grit-instructions", "obelics", "llava"]


@pytest.mark.parametrize("format_name", FORMATS)
def test_remote_sources_give_the_same_documents(
    format_name: str, places: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, urls = places
    (tmp_path / "again").mkdir()
    name, images = fill(tmp_path / "again")[format_name]
    here = documents(format_name, folder / name, folder / images if images else None)
    assert here
    for url in urls:
        where = locate(url)
        found = documents(format_name, where / name, where / images if images else None)
        assert [bare(doc) for doc in found] == [bare(doc) for doc in here]


def documents(format_name: str, source: AnyPath, images: AnyPath | None) -> list[Document]:
    config: dict[str, object] = {"images": str(images)} if images else {}
    if format_name in ("mmc4", "obelics"):
        config["single_image_share"] = 1.0
    docs, tally = read(format_name, source, **config)
    assert not tally.losses
    return docs


def bare(doc: Document) -> tuple[object, ...]:
    """A document with the bytes of its pictures."""
    parts: list[object] = []
    for part in doc.parts:
        source = part.source if isinstance(part, Image) else part
        parts.append(source.read_bytes() if isinstance(source, Path) else source)
    return (doc.id, dict(doc.meta), parts)


def test_an_import_from_elsewhere_says_where_from(
    places: tuple[Path, list[str]], tmp_path: Path
) -> None:
    for number, url in enumerate(places[1]):
        report = import_corpus(
            "pairs", f"{url}/pairs", tmp_path / str(number), config=make_config("pairs")
        )
        assert report.num_train == 2
        reader = ShardReader(tmp_path / str(number) / "train")
        assert reader.manifest["provenance"]["source"] == f"{url}/pairs"  # type: ignore[index,call-overload]


def test_remote_sources_that_are_not_there_or_are_cut_are_named(
    places: tuple[Path, list[str]], tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/test-sources/cut/0.tar", (places[0] / "pairs/0.tar").read_bytes()[:900])
    for url in places[1]:
        with pytest.raises(DataError, match=r"nowhere\.jsonl: expected a file, or a folder"):
            read("jsonl", locate(f"{url}/nowhere.jsonl"))
    with pytest.raises(DataError, match=r"cut/0\.tar: expected a whole tar"):
        read("pairs", locate("memory://test-sources/cut"))
