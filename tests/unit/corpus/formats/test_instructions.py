"""Instructions and conversations: every published layout, loss on answers alone."""

import json
from pathlib import Path

import pytest

from kosmos.corpus.formats.pictures import Exclusion
from kosmos.document.types import Document, Image, Text
from kosmos.errors import DataError
from tests.unit.corpus.formats.sources import (
    PNG,
    outline,
    photos,
    read,
    texts,
    write_parquet,
    write_rows,
)


def test_unnatural_instructions_say_where_the_input_stands(tmp_path: Path) -> None:
    core = {
        "instruction": "Name the color.",
        "instances": [
            {
                "instruction_with_input": "Name the color of: a red kite",
                "input": "a red kite",
                "constraints": "None.",
                "output": "red",
            }
        ],
    }
    full = {
        **core,
        "reformulations": [
            {"instruction": "Of {INPUT}, which color?", "input": "a red kite", "output": "red"},
            {"instruction": "Of {INPUT}, which?", "output": "red"},
        ],
    }
    docs, tally = read("instructions", write_rows(tmp_path / "u.jsonl", core, full))
    assert [texts(doc) for doc in docs] == [
        ["Name the color of: a red kite", "red"],
        ["Name the color of: a red kite", "red"],
        ["Of a red kite, which color?", "red"],
    ]
    assert {doc.meta["source"] for doc in docs} == {"Name the color."}
    assert [(loss.reason, loss.where) for loss in tally.losses] == [
        ("no input where the instruction places one", "u.jsonl:2#reformulation-1")
    ]


def test_flan_comes_from_json_lines_and_parquet(tmp_path: Path) -> None:
    row = {"inputs": "Is it red?\nNo or yes?", "targets": "yes", "task_source": "Flan2021"}
    empty = {**row, "targets": ""}
    for source in (
        write_rows(tmp_path / "f.jsonl", row, empty),
        write_parquet(tmp_path / "f.parquet", [row, empty]),
    ):
        docs, tally = read("instructions", source)
        assert [texts(doc) for doc in docs] == [["Is it red?\nNo or yes?", "yes"]]
        assert [part.loss for part in docs[0].parts if isinstance(part, Text)] == [False, True]
        assert tally.counts("bad") == {"no output": 1}


def test_staged_instructions_of_every_kind_are_read(shared_data: Path) -> None:
    # 21 completions of T0 are nothing but the mark of their end
    staged = (("seed_tasks", 175, 0), ("user_oriented_dev", 100, 0), ("t0_sample", 799, 21))
    for name, count, bad in staged:
        docs, tally = read("instructions", shared_data / f"instruct/{name}.jsonl")
        assert len(docs) == count
        assert tally.counts("bad") == ({"no output": bad} if bad else {})


# --- llava


def talk(*turns: tuple[str, str], **fields: object) -> dict[str, object]:
    said = [{"from": speaker, "value": value} for speaker, value in turns]
    return {"id": "1", "image": "0.png", "conversations": said, **fields}


ASK, SAY = ("human", "<image>\nWhat is it?"), ("gpt", "A kite.")


def llava(
    tmp_path: Path, *rows: object, **options: object
) -> tuple[list[Document], dict[str, int]]:
    config = {"images": str(tmp_path / "p"), **options}
    if not (tmp_path / "p").exists():
        photos(tmp_path / "p", 2)
    docs, tally = read("llava", write_rows(tmp_path / "l.jsonl", *rows), **config)
    return docs, tally.counts("bad") | tally.counts("left out") | tally.counts("changed")


def test_every_answer_of_a_conversation_carries_loss(tmp_path: Path) -> None:
    row = talk(("system", "Be kind."), ASK, SAY, ("human", "Which color?"), ("gpt", "Red."))
    (doc,), lost = llava(tmp_path, row)
    assert not lost
    assert doc.parts == (
        Text("Be kind.", role="system", loss=False),
        Image(tmp_path / "p/0.png", role="user"),
        Text("What is it?", role="user", loss=False),
        Text("A kite.", role="assistant"),
        Text("Which color?", role="user", loss=False),
        Text("Red.", role="assistant"),
    )
    assert doc.meta == {"source": "0.png"}


def test_pictures_stand_where_they_are_named_or_first(tmp_path: Path) -> None:
    rows = [
        talk(("human", "What is it?\n<image>"), SAY),
        talk(("human", "What is it?"), SAY),
        talk(("human", "One <image> and <image>?"), SAY, image=["0.png", "1.png"]),
        talk(("human", "Hello."), SAY, image=None),
    ]
    docs, lost = llava(tmp_path, *rows)
    assert not lost
    assert [outline(doc) for doc in docs] == [
        ["What is it?", "0", "A kite."],
        ["0", "What is it?", "A kite."],
        ["One", "0", "and", "1", "?", "A kite."],
        ["Hello.", "A kite."],
    ]


def test_the_other_layouts_are_the_same_conversation(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "<image>What is it?"},
        {"role": "assistant", "content": "A kite."},
    ]
    rows = [
        talk(ASK, SAY),
        {"image": "0.png", "messages": messages},
        {"image": "0.png", "instruction": "What is it?", "output": "A kite.", "type": "conv"},
        {"image": "0.png", "question": "What is it?", "answer": "A kite."},
        {"question_id": 7, "text": "A kite.", "category": "conv"},
        {"question_id": 7, "image": "0.png", "text": "What is it?"},
    ]
    docs, lost = llava(tmp_path, *rows)
    assert not lost
    assert len(docs) == 5
    assert {doc.parts for doc in docs} == {docs[0].parts}
    listed = tmp_path / "l.json"
    listed.write_text(json.dumps(rows[:1]))
    table = write_parquet(tmp_path / "l.parquet", [{**rows[0], "image": {"bytes": PNG}}])
    config = {"images": str(tmp_path / "p")}
    assert read("llava", listed, **config)[0][0].parts == docs[0].parts
    assert read("llava", table, **config)[0][0].parts == (
        Image(PNG, role="user"),
        *docs[0].parts[1:],
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (talk(ASK), "conversation without an answer"),
        (talk(ASK, ("gpt", " ")), "turn without text"),
        (talk(ASK, ("robot", "x")), "turn by an unknown speaker"),
        ({"conversations": ["x"]}, "turn that is not an object"),
        ({"conversations": "x"}, "no conversation"),
        ({"image": "0.png", "captions": ["x"]}, "no conversation"),
        (talk(("human", "<image> <image>"), SAY), "as many <image> as pictures expected"),
        (talk(ASK, SAY, image=None), "as many <image> as pictures expected"),
        (talk(ASK, SAY, image="gone.png"), "no file of the picture"),
        (talk(ASK, SAY, image="broken.png"), "picture does not decode"),
        ({"question_id": 1, "text": "x"}, "answer without its other half"),
        ({"question_id": 1, "text": "x", "image": "0.png"}, "question without its other half"),
    ],
)
def test_conversations_that_are_none_are_named(
    tmp_path: Path, row: dict[str, object], reason: str
) -> None:
    photos(tmp_path / "p", 2)
    (tmp_path / "p/broken.png").write_bytes(PNG[:99])
    docs, lost = llava(tmp_path, row)
    assert not docs
    assert [(name.startswith(reason), count) for name, count in lost.items()] == [(True, 1)]


def test_a_last_question_without_an_answer_goes(tmp_path: Path) -> None:
    (doc,), lost = llava(tmp_path, talk(ASK, SAY, ("human", "Why?")))
    assert outline(doc) == ["0", "What is it?", "A kite."]
    assert lost == {"question without an answer at the end": 1}


def test_pictures_of_test_sets_are_left_out_under_any_name(tmp_path: Path) -> None:
    names = [
        "COCO_train2014_000000000007.jpg",
        "coco/train2017/000000000007.jpg",
        "7.jpg",
        "000000000008.jpg",
        "kite.png",
    ]
    photos(tmp_path / "p", 1)
    for name in names:
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).write_bytes(PNG)
    out = tmp_path / "out.txt"
    out.write_text('{"file": "COCO_train2014_000000000007.jpg", "expression": "x"}\n\nkite.png\n')
    docs, lost = llava(
        tmp_path, *(talk(ASK, SAY, image=name) for name in names), exclude_images=str(out)
    )
    assert [doc.meta["source"] for doc in docs] == ["000000000008.jpg"]
    assert lost == {"picture of the list to leave out": 4}
    rows = write_rows(tmp_path / "c.jsonl", *({"image": n, "captions": ["x"]} for n in names))
    config = {"images": str(tmp_path / "p"), "exclude_images": str(out)}
    captions, tally = read("coco", rows, **config)
    assert len(captions) == 1
    assert tally.counts("left out") == {"picture of the list to leave out": 4}


@pytest.mark.parametrize("text", [None, " \n", '{"name": "x"}', "{"])
def test_a_list_that_names_nothing_is_an_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "out.txt").write_text(text)
    with pytest.raises(DataError, match=r"out\.txt: expected"):
        Exclusion(str(tmp_path / "out.txt"))


def test_staged_conversations_are_read(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "instruct/llava"
    config = {"images": photos(tmp_path / "p", 2), "assign_images": True}
    docs, tally = read("llava", folder / "coco2014_val_gpt4_qa_30x3.jsonl", **config)
    assert (len(docs), tally.losses) == (90, [])
    both = tmp_path / "both"
    both.mkdir()
    for name in ("qa90_questions.jsonl", "qa90_gpt4_answer.jsonl"):
        (both / name).write_bytes((folder / name).read_bytes())
    docs, tally = read("llava", both, **config)
    assert (len(docs), tally.losses) == (90, [])
    assert all(len(doc.images) == 1 for doc in docs)
    rows = folder / "caps_boxes_coco2014_val_80.jsonl"
    captions, tally = read("coco", rows, **config)
    assert len(captions) >= 400


def test_staged_test_set_pictures_are_left_out(shared_data: Path, tmp_path: Path) -> None:
    refcoco = shared_data / "grounding/refcoco_dev.jsonl"
    names = {json.loads(line)["file"] for line in refcoco.read_text().splitlines()}
    images = str(shared_data)  # some of them lie beside the list's own folder
    rows = [
        {"image": str((refcoco.parent / name).resolve()), "instruction": "What?", "output": "That."}
        for name in sorted(names)
    ]
    source = write_rows(tmp_path / "l.jsonl", *rows)
    kept, _ = read("llava", source, images=images)
    assert len(kept) == len(names)
    docs, tally = read("llava", source, images=images, exclude_images=str(refcoco))
    assert not docs
    assert tally.counts("left out") == {"picture of the list to leave out": len(names)}
