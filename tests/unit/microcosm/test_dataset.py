import json
import shutil
from dataclasses import replace

import pytest

from kosmos.document.shards import ShardReader
from kosmos.errors import ConfigError, DataError
from kosmos.microcosm import dataset, documents
from kosmos.microcosm.config import MicrocosmConfig

CONFIG = MicrocosmConfig(num_scenes=60, num_heldout=5, num_eval=6, documents_per_shard=10)
TRAIN = ("text", "captions", "grounded", "vqa", "interleaved", "instruct", "grounded-instruct")
EVAL = ("captions", "vqa", "referring", "color-knowledge", "size-knowledge")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("microcosm") / "world"
    dataset.make(CONFIG, path, progress=False)
    return path


def digests(folder):
    return {
        str(path.parent.relative_to(folder)): ShardReader(path.parent).digest
        for path in sorted(folder.glob("*/*/manifest.json"))
    }


def test_every_part_is_there_and_verifies(folder):
    expected = {f"train/{part}" for part in TRAIN} | {f"heldout/{part}" for part in TRAIN}
    expected |= {f"eval/{part}" for part in EVAL}
    assert set(digests(folder)) == expected
    counts = dataset.part_counts(CONFIG)
    for part in expected:
        reader = ShardReader(folder / part)
        reader.verify()
        assert len(reader) == counts[part]


def test_manifest_records_config_counts_and_kinds(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["config"]["num_scenes"] == 60
    assert set(manifest["parts"]) == set(digests(folder))
    assert manifest["parts"]["train/captions"] == {"documents": 17, "pictures": 17, "dropped": 0}
    assert len(manifest["kinds"]) == 44


def test_number_of_training_pictures_is_about_what_was_asked_for():
    config = replace(CONFIG, num_scenes=3000)
    counts = dataset.part_counts(config)
    single = sum(counts[f"train/{part}"] for part in ("captions", "grounded", "vqa"))
    pages = [documents.interleaved(config, "train", i) for i in range(100)]
    per_page = sum(len(page.images) for page in pages) / len(pages)
    pictures = single + counts["train/grounded-instruct"] + counts["train/interleaved"] * per_page
    assert abs(pictures - 3000) < 120


def test_heldout_and_evaluation_show_no_scene_of_training(folder):
    shown = {"train": set(), "heldout": set(), "eval": set()}
    for part in digests(folder):
        for doc in ShardReader(folder / part):
            shown[part.partition("/")[0]].update(doc.meta.get("scenes", []))
    assert len(shown["train"]) > 60
    assert not shown["train"] & (shown["heldout"] | shown["eval"])


def test_documents_that_training_has_are_dropped_counted_and_replaced(tmp_path, monkeypatch):
    def half_stolen(config, split, index):
        doc = documents.captions(config, "train" if index % 2 else split, index)
        return replace(doc, id=f"{split}-{index}")

    heldout = {**dataset.MAKERS["heldout"], "captions": half_stolen}
    monkeypatch.setitem(dataset.MAKERS, "heldout", heldout)
    made = dataset.make(CONFIG, tmp_path / "w", progress=False)
    assert made.parts["heldout/captions"].documents == 5
    assert made.parts["heldout/captions"].dropped == 4
    assert made.total("dropped") >= 4


def test_a_world_too_small_to_hold_anything_out_says_so(tmp_path, monkeypatch):
    def stolen(config, split, index):
        doc = documents.captions(config, "train", index % 17)
        return replace(doc, id=f"{split}-{index}")

    monkeypatch.setitem(dataset.MAKERS, "heldout", {**dataset.MAKERS["train"], "captions": stolen})
    with pytest.raises(DataError, match="expected 5 documents that training does not have"):
        dataset.make(CONFIG, tmp_path / "w", progress=False)


def test_what_is_there_is_kept(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.tar")}
    made = dataset.make(CONFIG, folder, progress=False)
    assert set(made.kept) == set(made.parts)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.tar")} == before


def test_killed_run_goes_on_and_ends_with_the_same_bytes(folder, tmp_path, monkeypatch):
    path = tmp_path / "world"

    def killed(config, split, index):
        if index == 3:
            raise KeyboardInterrupt
        return documents.vqa(config, split, index)

    with monkeypatch.context() as patch:
        patch.setitem(dataset.MAKERS, "train", {**dataset.MAKERS["train"], "vqa": killed})
        with pytest.raises(KeyboardInterrupt):
            dataset.make(CONFIG, path, progress=False)
    assert not (path / "train" / "vqa").exists()
    made = dataset.make(CONFIG, path, progress=False)
    assert made.kept == ("train/text", "train/captions", "train/grounded")
    assert digests(path) == digests(folder)


def test_a_part_that_is_lost_is_made_again(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "world")
    (path / "eval" / "vqa").rename(tmp_path / "lost")
    made = dataset.make(CONFIG, path, progress=False)
    assert set(made.parts) - set(made.kept) == {"eval/vqa"}
    assert digests(path) == digests(folder)


def test_documents_do_not_depend_on_the_number_of_processes(folder, tmp_path):
    made = dataset.make(CONFIG, tmp_path / "world", workers=2, progress=False)
    assert made.total("documents") == sum(dataset.part_counts(CONFIG).values())
    assert digests(tmp_path / "world") == digests(folder)


def test_force_removes_nothing_but_a_microcosm(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "copy")
    (path / "train" / "text" / "notes.txt").write_text("mine")
    other = replace(CONFIG, seed=CONFIG.seed + 1)
    with pytest.raises(ConfigError, match=r"train/text: .* a folder of shards.*'notes\.txt' in it"):
        dataset.make(other, path, force=True, progress=False)
    assert (path / "train" / "text" / "notes.txt").read_text() == "mine"


def test_another_config_is_refused_unless_forced(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "world")
    before = digests(path)
    other = replace(CONFIG, seed=1)
    with pytest.raises(ConfigError, match="found one of another"):
        dataset.make(other, path, progress=False)
    assert digests(path) == before
    made = dataset.make(other, path, force=True, progress=False)
    assert made.kept == ()
    assert digests(path)["train/captions"] != before["train/captions"]


def test_run_killed_before_its_first_record_goes_on(folder, tmp_path):
    path = tmp_path / "world"
    (path / "train").mkdir(parents=True)
    shutil.copytree(folder / "train" / "text", path / "train" / "text")
    assert dataset.make(CONFIG, path, progress=False).kept == ()
    assert digests(path) == digests(folder)


def test_folders_that_are_not_ours_are_left_alone(tmp_path):
    (tmp_path / "train" / "text").mkdir(parents=True)
    with pytest.raises(ConfigError, match="train/text: expected nothing there"):
        dataset.make(CONFIG, tmp_path, progress=False)
    assert list((tmp_path / "train" / "text").iterdir()) == []
