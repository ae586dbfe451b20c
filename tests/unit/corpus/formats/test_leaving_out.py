"""Pictures of a list stay out of every format that has pictures, in whatever container they lie."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kosmos.corpus.formats.pictures import Exclusion
from kosmos.corpus.formats.table import FORMATS
from tests.unit.corpus.formats.sources import (
    PNG,
    read,
    tsv_line,
    write_parquet,
    write_rows,
    write_tar,
)
from tests.unit.corpus.formats.test_pictures import ROWS, named

NAMES = [f"COCO_train2014_{number:012d}.jpg" for number in range(1, 25)]
SPANS = [[0, 5, 0.1, 0.1, 0.5, 0.5, 1.0]]
OBELICS = {"texts": [None, "A dog."], "images": ["NAME", None], "metadata": "[null, null]"}
URL = "http://images.cocodataset.org/train2014/"


def rows(format_name: str, folder: Path) -> Path:
    for name in NAMES:
        (folder / name).write_bytes(PNG)
    if format_name == "obelics":
        pages = [{**OBELICS, "images": [f"{URL}{name}", None]} for name in NAMES]
        return write_rows(folder / "a.jsonl", *pages)
    return write_rows(folder / "a.jsonl", *named(format_name, *NAMES))


def tar(format_name: str, folder: Path) -> Path:
    said = json.dumps({"caption": "a dog", "ref_exps": SPANS}).encode()
    stems = [name.removesuffix(".jpg") for name in NAMES]
    members = {f"{s}{end}": v for s in stems for end, v in ((".jpg", PNG), (".json", said))}
    return write_tar(folder / "a.tar", members)


def fetched(format_name: str, folder: Path) -> Path:
    """As img2dataset leaves them: the key says nothing, the URL does."""
    said = {"caption": "a dog", "ref_exps": SPANS}
    found = [
        {**said, "key": f"{n:09d}", "url": f"{URL}{name}", "jpg": PNG}
        for n, name in enumerate(reversed(NAMES), start=1)
    ]
    return write_parquet(folder / "a.parquet", found)


def structs(format_name: str, folder: Path) -> Path:
    said = {"caption": "a dog", "instruction": "What?", "output": "A dog."}
    found = [{**said, "image": {"bytes": PNG, "path": name}} for name in NAMES]
    return write_parquet(folder / "a.parquet", found)  # type: ignore[arg-type]


def tsv(format_name: str, folder: Path) -> Path:
    objects = repr({"expression_v1": SPANS, "phrase": SPANS})
    (folder / "a.tsv").write_text("".join(tsv_line(n, "a dog", PNG, objects) for n in NAMES))
    return folder / "a.tsv"


CAPTIONED = ("pairs", "grit", "grit-instructions")
SOURCES: list[tuple[str, Callable[[str, Path], Path]]] = [
    *((name, rows) for name in [*ROWS, "obelics"]),
    *((name, make) for name in CAPTIONED for make in (tar, fetched, tsv)),
    *((name, structs) for name in ("pairs", "llava")),
]


def test_every_format_with_pictures_is_looked_at_here() -> None:
    with_pictures = {name for name, f in FORMATS.items() if hasattr(f.config, "exclude_images")}
    assert {name for name, _ in SOURCES} == with_pictures


@pytest.mark.parametrize(("format_name", "make"), SOURCES)
def test_half_of_the_pictures_are_left_out(
    tmp_path: Path, format_name: str, make: Callable[[str, Path], Path]
) -> None:
    source = make(format_name, tmp_path)
    (tmp_path / "out.txt").write_text("".join(f"{n:012d}.jpg\n" for n in range(1, 13)))
    options: dict[str, object] = {"exclude_images": str(tmp_path / "out.txt")}
    if format_name in ("mmc4", "obelics"):
        options["single_image_share"] = 1.0
    docs, tally = read(format_name, source, **options)
    assert len(docs) == 12
    lost = [loss for loss in tally.losses if loss.reason == "picture of the list to leave out"]
    assert len(lost) == 12


def test_numbers_that_are_no_names_of_coco_leave_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text(
        "COCO_train2014_000000000042.jpg\nhttps://x/7.jpg\n000000099\n"
    )
    excluded = Exclusion(str(tmp_path / "out.txt"))
    for name in ("42.jpg", "a/000000000042.jpg", "COCO_val2014_000000000042.png", "000000000042"):
        assert name in excluded
    assert f"{URL}000000000042.jpg?x=1" in excluded
    assert "https://x/7.jpg" in excluded
    assert "000000099" in excluded
    for name in ("000000042", "https://y/42.jpg", "https://y/7.jpg", "7.png", "9" * 99_999):
        assert name not in excluded
