"""What is bad in the data is named, counted and kept, from `kosmos data import` to the first step.

Issue 4's list, item by item; a record is a document, or in report.json and dropped.jsonl, and never
neither. Each reader's own bad input is in tests/unit/data/formats.
"""

import base64
import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from kosmos.cli.main import cli
from kosmos.config import replace, to_json
from kosmos.document.shards import ShardReader
from kosmos.document.types import Document, Text
from kosmos.errors import CheckpointError, ConfigError, DataError, KosmosError
from kosmos.files import read_json, read_jsonl, write_json
from kosmos.train.config import Run
from kosmos.train.trainer import train
from tests.tiny_run import caption_document, make_run, write_shards
from tests.unit.corpus.formats.sources import PNG, png, write_parquet, write_rows, write_tar

GOOD = [png(70, 70) for _ in range(4)]
# what decodes to nothing: no bytes, no picture, half a picture, a picture without pixels
BAD = {"empty": b"", "words": b"no picture", "half": PNG[: len(PNG) // 2], "head": PNG[:33]}
BOX = [0.1, 0.1, 0.5, 0.5, 0.9]


def run_import(format_name: str, source: Path, *options: str) -> tuple[list[Document], dict, list]:
    """Import by the command; documents, the report and the list of what was lost."""
    out = source.parent / "out"
    words = ["data", "import", format_name, str(source), str(out), *options, "--max-bad", "0.9"]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    report, dropped = read_json(out / "report.json"), list(read_jsonl(out / "dropped.jsonl"))
    assert isinstance(report, dict)
    # what is counted is what is kept, and what the command says
    for fate in ("bad", "left out", "changed"):
        counts = report[fate.replace(" ", "_")]
        listed = Counter(row["reason"] for row in dropped if row["fate"] == fate)  # type: ignore[index, call-overload]
        assert counts == dict(listed)
        for reason, count in listed.items():
            assert f"  {fate:8}  {count:6}  {reason}" in result.stdout
    assert all(row["where"] for row in dropped)  # type: ignore[index, call-overload]
    return list(ShardReader(out / "train")), report, dropped


def reasons(dropped: list) -> dict[str, str]:
    """Reason by record."""
    return {row["where"]: row["reason"] for row in dropped}


def test_a_truncated_tar_stops_the_import_or_is_counted_with_its_whole_pairs_kept(
    tmp_path: Path,
) -> None:
    members = {}
    for number, data in enumerate(GOOD):
        members |= {f"{number}.png": data, f"{number}.txt": b"words"}
    path = write_tar(tmp_path / "a.tar", members)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"2.txt")])  # where a header would be
    with pytest.raises(DataError, match=r"a\.tar: expected a whole tar file, found") as error:
        run_import("pairs", path)
    assert "damaged_files=count" in str(error.value.hint)
    assert not (tmp_path / "out" / "train").exists()
    docs, report, dropped = run_import("pairs", path, "--set", "damaged_files=count")
    assert [doc.meta["source"] for doc in docs] == ["0", "1"]
    assert report["bad"] == {"file that is damaged or ends early": 1}
    assert "a.tar" in dropped[0]["where"]


def test_captions_with_tabs_and_newlines_are_whole_or_bad_and_never_two(tmp_path: Path) -> None:
    odd = "a\tdog\nand a cat"
    picture = base64.b64encode(GOOD[0]).decode()
    lines = [f"{n:032x}\t{text}\t{picture}\t70\t70\n" for n, text in enumerate(["one", odd, "two"])]
    (tmp_path / "tsv").mkdir()
    (tmp_path / "tsv" / "a.tsv").write_text("".join(lines))
    docs, report, dropped = run_import("pairs", tmp_path / "tsv" / "a.tsv")
    assert [doc.text for doc in docs] == ["one", "two"]
    assert report["bad"] == {"caption with a line break": 1}
    assert dropped[0]["where"].startswith("a.tsv:2")
    # where a caption has a field of its own nothing is lost
    (tmp_path / "tar").mkdir()
    tar = write_tar(
        tmp_path / "tar" / "a.tar",
        {"0.png": GOOD[0], "0.json": json.dumps({"caption": odd}).encode()},
    )
    docs, report, dropped = run_import("pairs", tar)
    assert ([doc.text for doc in docs], dropped) == ([odd], [])


@pytest.mark.parametrize("container", ["tar", "parquet", "tsv", "coco", "grit", "boxes"])
def test_an_image_that_decodes_to_nothing_is_bad_in_every_container(
    tmp_path: Path, container: str
) -> None:
    pictures = {**{f"good{n}": data for n, data in enumerate(GOOD)}, **BAD}
    for name, data in pictures.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    match container:
        case "tar":
            files = [(f"{name}.png", data) for name, data in pictures.items()]
            words = [(f"{name}.txt", b"words") for name in pictures]
            members = dict(sorted([*files, *words]))
            format_name, source = "pairs", write_tar(tmp_path / "a.tar", members)
        case "parquet":
            rows = [{"key": n, "caption": "words", "jpg": d} for n, d in pictures.items()]
            format_name, source = "pairs", write_parquet(tmp_path / "a.parquet", rows)
        case "tsv":
            source = tmp_path / "a.tsv"
            source.write_text(
                "".join(
                    f"{name}\twords\t{base64.b64encode(data).decode()}\t70\t70\n"
                    for name, data in pictures.items()
                )
            )
            format_name = "pairs"
        case _:
            extra = {
                "coco": {"captions": ["words"]},
                "grit": {"caption": "a dog", "ref_exps": [[0, 5, *BOX]]},
                "boxes": {"expression": "dog", "width": 70, "height": 70, "bbox": [1, 1, 9, 9]},
            }[container]
            rows = [{"file": f"{name}.png", **extra} for name in pictures]
            format_name, source = container, write_rows(tmp_path / "a.jsonl", *rows)
    options = ("--set", "boxes=xyxy-pixels") if container == "boxes" else ()
    docs, report, dropped = run_import(format_name, source, *options)
    assert len(docs) == len(GOOD)
    found = report["bad"]
    # no bytes are no picture to some containers
    assert set(found) <= {"picture does not decode", "no picture"}
    assert sum(found.values()) == len(BAD) == len(dropped)


def test_float_offsets_of_grit_are_read_and_reversed_boxes_left_out_with_their_rows_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    row = {"file": "p.png", "caption": "a dog on a mat"}
    reversed_box = [9, 14, 0.9, 0.1, 0.5, 0.5, 0.9]
    source = write_rows(
        tmp_path / "a.jsonl",
        {**row, "ref_exps": [[0.0, 5.0, *BOX]]},
        {**row, "ref_exps": [[0.0, 5.0, *BOX], reversed_box]},
        {**row, "ref_exps": [[0.5, 5.0, *BOX]]},
    )
    docs, report, dropped = run_import("grit", source)
    assert len(docs) == 2
    assert [part.text for part in docs[0].parts if hasattr(part, "boxes")] == ["a dog"]
    assert report["changed"] == {"box with reversed corners": 1}
    assert report["bad"] == {"span that is not [start, end, x0, y0, x1, y1, score]": 1}
    assert {where.partition("#")[0][:9] for where in reasons(dropped)} == {"a.jsonl:2", "a.jsonl:3"}


def test_too_many_bad_records_leave_a_list_of_them(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.jsonl", *({"text": f"{n}"} for n in range(30)), *["{"] * 5)
    out = tmp_path / "out"
    words = ["data", "import", "jsonl", str(source), str(out)]
    with pytest.raises(DataError, match="found 5 of 35: not JSON") as error:
        CliRunner().invoke(cli, words, catch_exceptions=False)
    listed = list(read_jsonl(out / "refused.jsonl"))
    assert [row["where"] for row in listed] == [f"a.jsonl:{n}" for n in range(31, 36)]  # type: ignore[index, call-overload]
    assert "refused.jsonl" in str(error.value.hint)
    assert [path.name for path in out.iterdir()] == ["refused.jsonl"]
    CliRunner().invoke(cli, [*words, "--max-bad", "0.5"], catch_exceptions=False)
    assert not (out / "refused.jsonl").exists()  # dropped.jsonl has them now
    assert len(list(read_jsonl(out / "dropped.jsonl"))) == 5


# --- what training refuses


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("bad"), steps=2)


@pytest.fixture(scope="module")
def finished(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    train(run, out=out)
    return out


def refusal(run: Run, out: Path, *options: str) -> KosmosError:
    """What `kosmos train` says of a run that it does not start."""
    write_json(out.with_suffix(".json"), to_json(run))
    words = ["train", str(out.with_suffix(".json")), "--out", str(out), *options]
    with pytest.raises(KosmosError) as error:
        CliRunner().invoke(cli, words, catch_exceptions=False)
    assert not (out / "metrics.jsonl").exists()
    return error.value


def test_a_document_longer_than_the_context_is_listed_with_its_length(
    run: Run, tmp_path: Path
) -> None:
    # of words behind so many pictures no row could hold one
    long = Document([*caption_document(1).images * 40, Text(" a red star.")], id="long")
    folder = write_shards(tmp_path / "docs", [caption_document(n) for n in range(20)] + [long])
    captions = {"streams.captions.path": str(folder)}
    error = refusal(replace(run, captions), tmp_path / "out")
    assert isinstance(error, DataError)
    assert "of 21 documents unusable, found 1 (1 too long)" in error.message
    allowing = replace(run, {**captions, "streams.captions.max_unusable": 0.1})
    train(allowing, out=tmp_path / "allowed", cache_folder=tmp_path / "cache")
    lists = [list(read_jsonl(path)) for path in tmp_path.rglob("unusable.jsonl")]
    (row,) = (row for listed in lists for row in listed)
    assert isinstance(row, dict)
    assert (row["document"], row["id"], row["reason"]) == (20, "long", "too long")
    assert "expected at most 64 tokens, found" in str(row)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "captions (FOLDER): expected documents to train on, found none"),
        (3, "streams.captions (FOLDER): expected at least 4 sequences"),
    ],
)
def test_a_stream_that_is_empty_or_shorter_than_its_batch_is_named(
    run: Run, tmp_path: Path, count: int, told: str
) -> None:
    folder = write_shards(tmp_path / "docs", [caption_document(n) for n in range(count)])
    error = refusal(replace(run, {"streams.captions.path": str(folder)}), tmp_path / "out")
    assert isinstance(error, DataError)
    assert error.message.startswith(told.replace("FOLDER", str(folder)))


def test_two_streams_of_one_name_are_refused_wherever_a_run_is_read(
    run: Run, tmp_path: Path
) -> None:
    value = to_json(run)
    assert isinstance(value, dict)
    value["data"]["streams"][1]["name"] = "text"  # type: ignore[index, call-overload]
    write_json(tmp_path / "run.json", value)
    file = str(tmp_path / "run.json")
    for words in (["train", file, "--out", str(tmp_path / "out")], ["plan", file]):
        with pytest.raises(ConfigError, match="expected unique names, found 'text' twice"):
            CliRunner().invoke(cli, words, catch_exceptions=False)
    checked = CliRunner().invoke(cli, ["data", "check", file])
    assert checked.exit_code == 1
    assert "expected unique names, found 'text' twice" in checked.output


def test_a_checkpoint_of_another_config_is_refused_with_what_differs(
    run: Run, finished: Path, tmp_path: Path
) -> None:
    # a folder that is another run's, and another run's checkpoints in a fresh folder
    other = replace(run, {"train.learning_rate": 0.5, "seed": 4})
    with pytest.raises(
        CheckpointError, match=r"run\.json: expected the run that is being resumed"
    ) as error:
        train(other, out=finished, resume=True)
    for told in ("learning_rate was 0.001 and is 0.5", "seed was 3 and is 4"):
        assert told in error.value.message
    out = tmp_path / "out"
    out.mkdir()
    (out / "checkpoints").symlink_to(finished / "checkpoints")
    with pytest.raises(
        CheckpointError, match=r"step-00000002: expected the run that is being resumed"
    ):
        train(other, out=out, resume=True)
    assert [path.name for path in (finished / "checkpoints").iterdir()] == ["step-00000002"]
