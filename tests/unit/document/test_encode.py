"""Documents become rows of ids: layouts, splicing, loss masks, boxes, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.boxes import Box
from kosmos.document.encode import Encoded, encode
from kosmos.document.layout import INFERENCE, TRAINING, Layout
from kosmos.document.types import Document, Grounded, Image, Text
from kosmos.errors import ConfigError, DataError, ImageError, MarkupError
from kosmos.image.config import ImageConfig
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.training import train_tokenizer
from tests.strategies import boxes

SQUARE = ImageConfig()
CROP = ImageConfig(geometry="center-crop")
PICTURE = np.zeros((48, 64, 3), np.uint8)
BOX = Box(0.1, 0.2, 0.3, 0.4)  # cells 195 and 393 by either rounding
FIRST, LAST = 195, 393
WORDS = ("a", "dog", "cat", "sits", "by", "the", "fire", "and", "snow", "house", "of", "grass")


def _tokenizer() -> Tokenizer:
    lines = [f"{a} {b}, {c} {d}." for a in WORDS for b in WORDS for c in WORDS[:3] for d in WORDS]
    return Tokenizer.from_bytes(train_tokenizer(lines, num_pieces=35), num_cells=32)


TOKENIZER = _tokenizer()
V = TOKENIZER.vocabulary


def lay_out(
    *parts: Text | Image | Grounded,
    layout: Layout = TRAINING,
    image: ImageConfig = SQUARE,
    complete: bool = True,
    tokenizer: Tokenizer = TOKENIZER,
) -> Encoded:
    doc = Document(parts, id="doc-7")
    return encode(doc, tokenizer, layout=layout, image=image, complete=complete)


def ids(*parts: Text | Image | Grounded, **options: object) -> list[int]:
    return lay_out(*parts, **options).token_ids.tolist()  # type: ignore[arg-type]


def slots(layout: Layout = TRAINING) -> list[int]:
    middle = [V.image_id] * 64 if layout.slot_ids == "image" else list(range(4, 68))
    return [V.image_id, *middle, V.image_end_id]


def phrase(words: str, *pairs: tuple[int, int]) -> list[int]:
    """Tags around words tokenized by themselves."""
    out = [V.phrase_id, *TOKENIZER.encode(words), V.phrase_end_id, V.object_id]
    for number, pair in enumerate(pairs):
        out += [V.delimiter_id] * (number > 0) + [V.location_id(index) for index in pair]
    return [*out, V.object_end_id]


# --- the papers' layouts


def test_text_stands_between_s_and_end() -> None:
    assert ids(Text("a dog sits")) == [0, *TOKENIZER.encode("a dog sits"), 2]


def test_caption_follows_its_picture() -> None:
    want = [0, *slots(), *TOKENIZER.encode("a dog sits"), 2]
    assert ids(Image(PICTURE), Text("a dog sits")) == want


def test_interleaved_pictures_stand_where_they_are_in_the_text() -> None:
    say = TOKENIZER.encode
    want = [0, *say("a dog"), *slots(), *say("the cat"), *slots(), *say("grass"), 2]
    got = ids(Text("a dog"), Image(PICTURE), Text("the cat"), Image(PICTURE), Text("grass"))
    assert got == want


def test_grounding_stands_directly_behind_the_picture() -> None:
    want = [0, *slots(), V.grounding_id, *phrase("a dog", (FIRST, LAST)), *TOKENIZER.encode("sits")]
    assert ids(Image(PICTURE), Grounded("a dog", [BOX]), Text(" sits")) == [*want, 2]


def test_grounding_that_is_typed_is_not_repeated() -> None:
    typed = ids(Image(PICTURE), Text("<grounding>by "), Grounded("a dog", [BOX]))
    assert typed == ids(Image(PICTURE), Text("by "), Grounded("a dog", [BOX]))
    assert typed.count(V.grounding_id) == 1


def test_grounding_comes_once_for_a_question_and_its_answer() -> None:
    question = Text("the dog", role="user", loss=False)
    row = lay_out(Image(PICTURE), question, Grounded("a dog", [BOX], role="assistant"))
    where = row.token_ids.tolist().index(V.grounding_id)
    assert where == 67
    assert not row.loss_mask[where]
    assert row.token_ids.tolist().count(V.grounding_id) == 1


def test_each_picture_has_its_own_grounding() -> None:
    row = ids(Image(PICTURE), Grounded("dog", [BOX]), Image(PICTURE), Grounded("cat", [BOX]))
    assert row.count(V.grounding_id) == 2


def test_boxes_of_one_phrase_are_delimited_in_order() -> None:
    second = Box(0.0, 0.0, 0.99, 0.99)
    row = ids(Image(PICTURE), Grounded("dogs", [BOX, second]))
    assert row[68:-1] == phrase("dogs", (FIRST, LAST), (0, 31 * 32 + 31))


def test_prompt_with_no_parts_is_s_alone() -> None:
    assert ids(complete=False) == [0]


def test_prompt_is_the_document_without_its_end() -> None:
    parts = (Image(PICTURE), Text("a dog"))
    assert [*ids(*parts, complete=False), 2] == ids(*parts)


def test_prompt_keeps_its_ids_when_the_answer_follows() -> None:
    question, answer = Text("a dog sits by", loss=False), Text("the fire", role="assistant")
    prompt = ids(Image(PICTURE), question, complete=False)
    assert ids(Image(PICTURE), question, answer)[: len(prompt)] == prompt


def test_neighbors_of_one_speaker_are_one_run_of_words() -> None:
    assert ids(Text("a sn"), Text("ow")) == ids(Text("a snow"))
    assert ids(Text("a sn", role="user"), Text("ow")) != ids(Text("a snow"))


def test_slot_ids_count_in_the_inference_layout() -> None:
    row = lay_out(Image(PICTURE), Text("a dog"), layout=INFERENCE, complete=False)
    assert row.token_ids[:67].tolist() == [0, *slots(INFERENCE)]
    assert row.image_slots.tolist()[:68] == [False, False, *[True] * 64, False, False]


def test_sizes_of_pictures_are_told() -> None:
    row = lay_out(Image(PICTURE), Text("a"), Image(np.zeros((7, 5, 3), np.uint8)))
    assert row.image_sizes == ((64, 48), (5, 7))


# --- splice and separate


def test_comma_behind_a_phrase_stays_on_its_word_when_spliced() -> None:
    parts = (Image(PICTURE), Grounded("a dog", [BOX]), Text(", the cat"))
    whole = TOKENIZER.encode("a dog, the cat")
    count = len(TOKENIZER.encode("a dog"))
    spliced = ids(*parts)[68 + count + 6 : -1]
    assert spliced == whole[count:]
    separate = ids(*parts, layout=INFERENCE)[68 + count + 6 : -1]
    assert separate == TOKENIZER.encode(", the cat")
    assert separate != spliced


@pytest.mark.parametrize("layout", [TRAINING, INFERENCE], ids=["splice", "separate"])
def test_typed_markup_gives_the_ids_of_grounded_parts(layout: Layout) -> None:
    markup = (
        "<grounding>by <phrase>the fire</phrase><object><patch_index_0195><patch_index_0393>"
        "</object> sits <phrase>a cat</phrase><object><patch_index_0195><patch_index_0393>"
        "</delimiter_of_multi_objects/><patch_index_0195><patch_index_0393></object>, dog"
    )
    parts = (
        Text("by "),
        Grounded("the fire", [BOX]),
        Text(" sits "),
        Grounded("a cat", [BOX, BOX]),
        Text(", dog"),
    )
    typed = ids(Image(PICTURE), Text(markup), layout=layout)
    assert typed == ids(Image(PICTURE), *parts, layout=layout)


def test_markup_that_ends_in_the_middle_is_a_prompt() -> None:
    for layout in (TRAINING, INFERENCE):
        row = ids(Text("<grounding><phrase>the dog</phrase>"), layout=layout, complete=False)
        want = [V.grounding_id, V.phrase_id, *TOKENIZER.encode("the dog"), V.phrase_end_id]
        assert row == [0, *want]


def test_phrase_inside_a_piece_keeps_its_words_and_loses_its_tags() -> None:
    assert len(TOKENIZER.encode("dog")) == 1
    row = lay_out(Image(PICTURE), Text("a do"), Grounded("g", [BOX]), Text(" sits"))
    assert row.token_ids.tolist()[68:] == [*TOKENIZER.encode("a dog sits"), 2]
    assert row.num_dropped_phrases == 1


def test_typed_markup_inside_a_piece_is_an_error_naming_document_and_part() -> None:
    with pytest.raises(MarkupError, match=r"document 'doc-7', part 1: .*expected"):
        lay_out(Image(PICTURE), Text("a do<phrase>g"))


def test_location_that_the_grid_does_not_have_is_an_error_naming_document_and_part() -> None:
    for layout in (TRAINING, INFERENCE):
        with pytest.raises(MarkupError, match=r"document 'doc-7', part 0: .*1024") as caught:
            lay_out(Text("<object><patch_index_1024></object>"), layout=layout)
        assert caught.value.position == 8


def test_typed_control_tokens_are_words_unless_asked_for() -> None:
    assert V.eos_id not in ids(Text("a </s> dog"), complete=False)
    layout = replace(INFERENCE, typed_control="control")
    row = ids(Text("a </s> dog"), complete=False, layout=layout)
    assert row == [0, *TOKENIZER.encode("a"), 2, *TOKENIZER.encode("dog")]
    with pytest.raises(ConfigError, match="typed_control"):
        replace(TRAINING, typed_control="control")


def test_vocabulary_without_a_grid_takes_markup_for_words_and_refuses_boxes() -> None:
    plain = Tokenizer.from_bytes(TOKENIZER.model_bytes, num_cells=0)
    row = ids(Text("<grounding>a dog"), tokenizer=plain)
    assert row == [0, *plain.encode("<grounding>a dog"), 2]
    with pytest.raises(DataError, match="part 1: expected a vocabulary with location tokens"):
        lay_out(Image(PICTURE), Grounded("dog", [BOX]), tokenizer=plain)
    flat = replace(TRAINING, ground=False)
    row = ids(Image(PICTURE), Grounded("a dog", [BOX]), tokenizer=plain, layout=flat)
    assert row == ids(Image(PICTURE), Text("a dog"), tokenizer=plain)


# --- lines


def test_lines_end_with_line_tokens_but_the_last() -> None:
    layout = replace(TRAINING, line_tokens=True)
    say = TOKENIZER.encode
    row = ids(Text("a dog\n\n  \nthe cat\ngrass\n"), layout=layout)
    assert row == [
        0,
        *say("a dog"),
        V.line_end_id,
        *say("the cat"),
        V.line_end_id,
        *say("grass"),
        2,
    ]


def test_phrases_stay_in_their_line() -> None:
    layout = replace(TRAINING, line_tokens=True)
    row = ids(Image(PICTURE), Text("a cat\nthe "), Grounded("dog", [BOX]), layout=layout)
    say = TOKENIZER.encode
    want = [V.grounding_id, *say("a cat"), V.line_end_id, *say("the"), *phrase("dog", (195, 393))]
    assert row[67:-1] == want


# --- loss


def test_loss_falls_on_words_and_markup_and_never_on_image_tokens() -> None:
    row = lay_out(Image(PICTURE), Grounded("a dog", [BOX]), Text(" sits"))
    assert not row.loss_mask[:67].any()
    assert row.loss_mask[67:].all()


def test_loss_of_an_instruction_falls_on_the_output_alone() -> None:
    question, answer = Text("a dog", role="user", loss=False), Text("the cat", role="assistant")
    row = lay_out(question, answer)
    count = 1 + len(TOKENIZER.encode("a dog"))
    assert not row.loss_mask[:count].any()
    assert row.loss_mask[count:].all()


def test_every_answer_of_a_talk_ends_and_learns_to() -> None:
    def say(words: str, *, loss: bool = True) -> Text:
        return Text(words, role="assistant", loss=loss)

    def ask(words: str) -> Text:
        return Text(words, role="user", loss=False)

    dog, cat, fire, snow = (TOKENIZER.encode(word) for word in ("dog", "cat", "fire", "snow"))
    talk = (ask("dog"), say("cat"), ask("fire"), say("snow"))
    end = [V.eos_id]
    row = lay_out(*talk)
    assert row.token_ids.tolist() == [V.bos_id, *dog, *cat, *end, *fire, *snow, *end]
    learned = [False] * (1 + len(dog)) + [True] * (len(cat) + 1)
    learned += [False] * len(fire) + [True] * (len(snow) + 1)
    assert row.loss_mask.tolist() == learned
    # what is asked next has the ids before it that training had
    prompt = ids(*talk[:3], complete=False)
    assert row.token_ids.tolist()[: len(prompt)] == prompt
    assert ids(*talk[:2], complete=False)[-1] != V.eos_id
    told = lay_out(talk[0], say("cat", loss=False), *talk[2:])
    assert not told.loss_mask[: len(told) - len(snow) - 1].any()


def test_an_answer_ends_before_the_picture_of_the_next_question() -> None:
    picture = Image(PICTURE, role="user")
    answer = Grounded("a dog", [BOX], role="assistant")
    asked = Text("cat", role="user", loss=False)
    row = ids(picture, asked, answer, Text(" sits", role="assistant"), picture, asked, answer)
    ends = [place for place, token in enumerate(row) if token == V.eos_id]
    assert [row[place + 1 : place + 2] for place in ends] == [[V.image_id], []]
    assert row.count(V.grounding_id) == 2


def test_end_counts_only_where_the_last_words_do() -> None:
    assert not lay_out(Text("a dog"), Text("the cat", loss=False)).loss_mask[-1]
    assert lay_out(Text("a dog", loss=False), Image(PICTURE)).loss_mask[-1]


# --- boxes


def test_crop_moves_boxes_and_counts_those_it_leaves_out() -> None:
    wide = np.zeros((480, 640, 3), np.uint8)
    kept, lost = Box(0.1, 0.1, 0.5, 0.5), Box(0.0, 0.1, 0.15, 0.9)  # spec's worked crops
    row = lay_out(Image(wide), Grounded("dogs", [kept, lost]), image=CROP)
    assert row.token_ids.tolist()[68:-1] == phrase("dogs", (3 * 32, 16 * 32 + 16))
    assert (row.num_dropped_boxes, row.num_dropped_phrases) == (1, 0)


def test_phrase_without_a_visible_box_stays_as_plain_words() -> None:
    wide = np.zeros((480, 640, 3), np.uint8)
    row = lay_out(
        Image(wide), Grounded("a dog", [Box(0.0, 0.1, 0.15, 0.9)]), Text(" sits"), image=CROP
    )
    assert row.token_ids.tolist() == ids(Image(wide), Text("a dog sits"))
    assert (row.num_dropped_boxes, row.num_dropped_phrases) == (1, 1)


def test_boxes_lie_in_the_last_picture_before_them() -> None:
    wide, tall = np.zeros((100, 400, 3), np.uint8), np.zeros((400, 100, 3), np.uint8)
    box = Grounded("dog", [Box(0.4, 0.4, 0.6, 0.6)])
    behind_wide = ids(Image(tall), Image(wide), box, image=CROP)
    assert behind_wide[-8:] == ids(Image(wide), box, image=CROP)[-8:]
    assert behind_wide[-8:] != ids(Image(tall), box, image=CROP)[-8:]


def test_rounding_is_the_layouts() -> None:
    edge = Grounded("dog", [Box(0.0, 0.0, 0.5, 0.5)])
    row = ids(Image(PICTURE), edge)
    assert row[-3] == V.location_id(528)
    assert ids(Image(PICTURE), edge, layout=replace(TRAINING, rounding="hf"))[-3] == V.location_id(
        495
    )


@pytest.mark.parametrize(
    "box",
    [
        Box(-0.1, 0.0, 1.0, 1.0),
        Box(0.0, 0.0, 1.2, 1.0),
        Box(0.5, 0.0, 0.4, 1.0),
        Box(math.nan, 0.0, 1.0, 1.0),
    ],
)
def test_box_that_is_none_is_an_error_naming_document_and_part(box: Box) -> None:
    for layout in (TRAINING, replace(TRAINING, ground=False)):
        with pytest.raises(DataError, match="document 'doc-7', part 1: expected"):
            lay_out(Image(PICTURE), Grounded("dog", [box]), layout=layout)


def test_boxes_before_any_picture_are_an_error() -> None:
    with pytest.raises(DataError, match="document 'doc-7', part 0: expected an image before"):
        lay_out(Grounded("a dog", [BOX]), Image(PICTURE))


def test_boxes_of_no_words_are_an_error() -> None:
    with pytest.raises(DataError, match="document 'doc-7', part 1: expected the words"):
        lay_out(Image(PICTURE), Grounded(" ", [BOX]), Text("a"))


def test_complete_document_without_words_is_an_error() -> None:
    for parts in ((), (Image(PICTURE),), (Image(PICTURE), Text(" ")), (Text("<grounding>"),)):
        with pytest.raises(DataError, match="document 'doc-7': expected words"):
            lay_out(*parts)
        lay_out(*parts, complete=False)


def test_picture_that_is_none_is_an_error_naming_document_and_part() -> None:
    with pytest.raises(ImageError, match="document 'doc-7', part 1"):
        lay_out(Text("a"), Image(b"no picture"))


# --- properties

texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
# what parts are made of; they are made in the test, as a run-time type checker (which draws random
# numbers) may not be used inside a strategy
specs = st.lists(
    st.one_of(
        st.none(),
        st.tuples(texts, st.lists(boxes(min_side=0.02), max_size=2), st.booleans()),
    ),
    min_size=1,
    max_size=8,
)
Specs: TypeAlias = list[tuple[str, list[Box], bool] | None]


def made(specs: Specs) -> list[Text | Image | Grounded]:
    """A picture, then words with and without boxes, and more pictures."""
    parts: list[Text | Image | Grounded] = [Image(PICTURE)]
    for spec in specs:
        if spec is None:
            parts.append(Image(PICTURE))
        elif spec[1]:
            parts.append(Grounded(f" {spec[0]}", spec[1], loss=spec[2]))
        else:
            parts.append(Text(f" {spec[0]}", loss=spec[2]))
    return parts


@given(specs, st.sampled_from([TRAINING, INFERENCE]), st.sampled_from([SQUARE, CROP]))
def test_slots_are_counted_masks_fit_and_words_come_back(
    specs: Specs, layout: Layout, image: ImageConfig
) -> None:
    parts = made(specs)
    row = lay_out(*parts, layout=layout, image=image, complete=False)
    num_images = sum(isinstance(part, Image) for part in parts)
    assert row.image_slots.sum() == num_images * layout.num_image_tokens
    assert len(row.images) == len(row.image_sizes) == num_images
    assert row.token_ids.shape == row.image_slots.shape == row.loss_mask.shape
    machinery = row.image_slots | np.isin(row.token_ids, [0, V.image_id, V.image_end_id])
    assert not (row.loss_mask & machinery).any()
    words = "".join(part.text for part in parts if not isinstance(part, Image)).split()
    assert TOKENIZER.decode(row.token_ids.tolist(), markup=False).split() == words


@given(specs)
def test_ungrounded_layout_is_that_of_the_plain_words(specs: Specs) -> None:
    parts = made(specs)
    plain = [Text(p.text, loss=p.loss) if isinstance(p, Grounded) else p for p in parts]
    flat = lay_out(*parts, layout=replace(TRAINING, ground=False), complete=False)
    want = lay_out(*plain, complete=False)
    assert flat.token_ids.tolist() == want.token_ids.tolist()
    assert flat.loss_mask.tolist() == want.loss_mask.tolist()


@given(specs)
def test_tags_taken_out_of_a_spliced_row_leave_the_plain_row(specs: Specs) -> None:
    parts = made(specs)
    grounded = lay_out(*parts, complete=False).token_ids
    plain = lay_out(*parts, layout=replace(TRAINING, ground=False), complete=False).token_ids
    assert grounded[grounded < V.phrase_id].tolist() == plain.tolist()


# --- the released tokenizer on real captions


@pytest.fixture(scope="module")
def released(shared_data: Path) -> Tokenizer:
    return Tokenizer.load(shared_data / "kosmos2" / "sentencepiece.bpe.model")


def test_prompt_of_the_release_has_its_71_ids(released: Tokenizer) -> None:
    row = ids(
        Image(PICTURE),
        Text("<grounding>An image of"),
        layout=INFERENCE,
        complete=False,
        tokenizer=released,
    )
    assert row == [0, 64003, *range(4, 68), 64004, 64012, 712, 1648, 9]


def test_published_processor_cases_are_reproduced(released: Tokenizer, shared_data: Path) -> None:
    published = json.loads((shared_data / "kosmos2/golden/published_dev.json").read_text())
    for case in published["processor_cases"]:
        text = case["text"]
        for entry in case["bboxes"] or []:
            pairs = [entry] if entry and isinstance(entry[0], int) else entry
            locations = ["".join(f"<patch_index_{i:04d}>" for i in pair) for pair in pairs]
            markup = "</delimiter_of_multi_objects/>".join(locations)
            if markup:
                text = text.replace("</phrase>", f"</phrase><object>{markup}</object>")
        assert ids(Text(text), layout=INFERENCE, tokenizer=released) == case["ids"]


def test_worked_example_of_a_grit_row_has_the_released_ids(released: Tokenizer) -> None:
    caption = "a wire hanger with a paper cover that reads we heart our customers"
    hanger = Box(0.019422357885505368, 0.027634161214033764, 0.9593302408854166, 0.969467560450236)
    cover = Box(0.019644069503434333, 0.31054004033406574, 0.9622142865754519, 0.9603442351023356)
    picture = Image(np.zeros((693, 1024, 3), np.uint8))
    row = ids(
        picture,
        Grounded(caption[:13], [hanger]),
        Text(caption[13:19]),
        Grounded(caption[19:32], [cover]),
        Text(caption[32:]),
        image=CROP,
        tokenizer=released,
    )
    wanted = (
        "64012 64007 10 6454 31772 64008 64009 64013 65036 64010 23 64007 10 1287 1285 64008 "
        "64009 64301 65004 64010 14 6372 46 689 84 1158 2"
    )
    assert row[67:] == list(map(int, wanted.split()))
    whole = ids(picture, Grounded(caption, [hanger]), image=CROP, tokenizer=released)
    assert whole[67:] == [64012, 64007, *released.encode(caption), *row[72:77], 2]
