"""The folder we export, opened with transformers' AutoProcessor: same ids, same pixels."""

import json

import numpy as np
import PIL.Image
import pytest

from kosmos.document.encode import encode
from kosmos.document.types import Document, Image, Text
from kosmos.errors import CheckpointError
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform
from kosmos.runtime import generator
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights.folder import load_model
from kosmos.weights.huggingface import export_huggingface
from kosmos.weights.huggingface_tokenizer import write_tokenizer
from kosmos.weights.loaded import LoadedModel
from tests.tiny import TEXTS, tiny_config, tiny_image, tiny_layout, tiny_model, tiny_tokenizer

transformers = pytest.importorskip("transformers")

PLAIN = (
    "An image of",
    "A red dog sees the cat, 3 times",
    "  spaces   between\tand a\nline ",
    "Fullwidth Ａｎ and ligature ﬁre",
    "characters it never saw: 火 \N{DOG FACE} \u00e9 zq",
    "",
)
MARKUP = (
    "<grounding>An image of",
    "<grounding><phrase>a dog</phrase><object><patch_index_0003><patch_index_0014></object> is",
    "<phrase> a dog </phrase>, near<phrase> the fire</phrase>",
    "<object><patch_index_0000><patch_index_0005></delimiter_of_multi_objects/>"
    "<patch_index_0001><patch_index_0015></object>",
)


def exported(folder, tokenizer: Tokenizer):
    config = tiny_config(vocab_size=tokenizer.vocabulary.size)
    loaded = LoadedModel(
        model=tiny_model(config),
        tokenizer=tokenizer,
        image=tiny_image(config),
        layout=tiny_layout(config),
    )
    export_huggingface(loaded, folder)
    return loaded, transformers.AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported") / "model"


@pytest.fixture(scope="module")
def both(folder):
    return exported(folder, tiny_tokenizer())


def test_processor_has_our_vocabulary(both):
    loaded, processor = both
    vocabulary = loaded.tokenizer.vocabulary
    assert type(processor).__name__ == "Kosmos2Processor"
    assert len(processor.tokenizer) == vocabulary.size
    for token_id in range(vocabulary.size):
        control = vocabulary.control_token(token_id)
        if control is not None:
            assert processor.tokenizer.convert_tokens_to_ids(control) == token_id


@pytest.mark.parametrize("text", PLAIN + MARKUP)
def test_tokenizer_gives_our_ids(both, text):
    loaded, processor = both
    theirs = processor.tokenizer(text, add_special_tokens=False).input_ids
    assert theirs == loaded.tokenizer.encode_markup(text)


@pytest.mark.parametrize("text", [*PLAIN[:-1], *MARKUP])
def test_processor_lays_out_a_prompt_as_we_do(both, text):
    loaded, processor = both
    picture = noise_picture(40, 30)
    theirs = processor(text=text, images=picture, num_image_tokens=loaded.layout.num_image_tokens)
    ours = encode(
        # their processor strips a text; where ours has spaces at the ends is the caller's choice
        Document([Image(picture), Text(text.strip())]),
        loaded.tokenizer,
        layout=loaded.layout,
        image=loaded.image,
        complete=False,
    )
    assert theirs["input_ids"] == ours.token_ids.tolist()
    assert theirs["image_embeds_position_mask"] == ours.image_slots.astype(int).tolist()


@pytest.mark.parametrize("size", [(40, 30), (28, 28), (13, 90)])
def test_processor_makes_our_pixels(both, size):
    loaded, processor = both
    picture = noise_picture(*size)
    theirs = processor(text="a", images=picture, num_image_tokens=3, return_tensors="np")
    ours = ImageTransform(loaded.image).pixels(picture)
    # both resize with Pillow; measured 0.0, but the order of scaling is theirs to change
    assert np.abs(theirs["pixel_values"][0] - ours).max() < 1e-6


def noise_picture(width: int, height: int) -> PIL.Image.Image:
    rng = generator(0, "picture", width, height)
    return PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_exported_folder_loads_again_whole(both, folder):
    loaded, _ = both
    again = load_model(folder)
    assert again.tokenizer.digest == loaded.tokenizer.digest
    assert again.tokenizer.vocabulary == loaded.tokenizer.vocabulary
    assert again.image == loaded.image
    assert again.layout == loaded.layout
    assert again.model.config == loaded.model.config


def test_center_crop_is_exported_and_imported(tmp_path):
    config = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size)
    image = ImageConfig(size=28, geometry="center-crop", mean=(0.5, 0.4, 0.3))
    loaded = LoadedModel(
        model=tiny_model(config),
        tokenizer=tiny_tokenizer(),
        image=image,
        layout=tiny_layout(config),
    )
    export_huggingface(loaded, tmp_path / "model")
    assert load_model(tmp_path / "model").image == image
    picture = noise_picture(56, 28)
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "model")
    theirs = processor(text="a", images=picture, num_image_tokens=3, return_tensors="np")
    ours = ImageTransform(image).pixels(picture)
    assert np.abs(theirs["pixel_values"][0] - ours).max() < 1e-6


def test_byte_fallback_tokenizer_gives_our_ids(tmp_path):
    loaded, processor = exported(
        tmp_path / "model", tiny_tokenizer(num_cells=2, byte_fallback=True)
    )
    for text in PLAIN:
        theirs = processor.tokenizer(text, add_special_tokens=False).input_ids
        assert theirs == loaded.tokenizer.encode(text)
        assert processor.tokenizer.decode(theirs) == loaded.tokenizer.decode(theirs)


def test_vocabulary_without_locations_keeps_its_ids(tmp_path):
    """Their processor adds its tags whatever the model knows; ids below them are ours."""
    loaded, processor = exported(tmp_path / "model", tiny_tokenizer(num_cells=0))
    for text in (*PLAIN, *TEXTS[:5]):
        theirs = processor.tokenizer(text, add_special_tokens=False).input_ids
        assert theirs == loaded.tokenizer.encode(text)


def test_real_tokenizer_gives_the_ids_of_the_release(shared_data, tmp_path):
    """The released SentencePiece model; ids from the release's own code and HF's tests."""
    tokenizer = Tokenizer.load(shared_data / "kosmos2" / "sentencepiece.bpe.model")
    write_tokenizer(tmp_path, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == 65_037
    for text, ids in {
        "<grounding>An image of": [64012, 712, 1648, 9],
        "<phrase>a dog</phrase>, and a cat": [64007, 10, 1133, 64008, 106, 6, 8, 10, 2540],
        "emoji \U0001f642 \U0001f436": [24273, 106, 63998, 106, 3],
        "5,000 km": [8038, 4285],
        "na\u00efve caf\u00e9": [31950, 17884],
    }.items():
        assert theirs(text, add_special_tokens=False).input_ids == ids
        assert tokenizer.encode_markup(text) == ids
    for line in TEXTS + PLAIN:
        assert theirs(line, add_special_tokens=False).input_ids == tokenizer.encode(line)


def test_files_say_what_older_transformers_look_for(both, folder):
    del both
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json",
        "processor_config.json", "sentencepiece.bpe.model", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Kosmos2ForConditionalGeneration"]
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "XLMRobertaTokenizer"


def saved_by_transformers(folder, tokenizer: Tokenizer):
    """Our export, opened and saved by transformers 5, which leaves no SentencePiece model."""
    _, processor = exported(folder / "ours", tokenizer)
    model = transformers.Kosmos2ForConditionalGeneration.from_pretrained(folder / "ours")
    processor.save_pretrained(folder / "theirs")
    model.save_pretrained(folder / "theirs")
    assert not list((folder / "theirs").glob("*.model"))
    return processor.tokenizer, load_model(folder / "theirs").tokenizer


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_a_folder_that_transformers_saved_has_its_words(tmp_path, byte_fallback):
    before = tiny_tokenizer(byte_fallback=byte_fallback)
    theirs, ours = saved_by_transformers(tmp_path, before)
    assert ours.vocabulary == before.vocabulary
    rng = generator(0, "words")
    # a vowel sign stands on its letter: one on a space of another kind than " " is normalized with
    # it by transformers, and by itself in SentencePiece, on whose word we go
    letters = [*"aeou sthdg  ,.éüß火йλ한ﬁＡ", "हि", "\u00a0", "\u200b", "\u3000", "\N{DOG FACE}"]
    random = ["".join(rng.choice(letters, size=24)) for _ in range(300)]
    for text in (*PLAIN, *TEXTS[:40], *random):
        expected = theirs(text, add_special_tokens=False).input_ids
        assert ours.encode(text) == expected, text
        assert before.encode(text) == expected, text


def test_the_released_words_come_back_from_what_transformers_saved(tmp_path, shared_data):
    before = Tokenizer.load(shared_data / "kosmos2" / "sentencepiece.bpe.model")
    theirs, ours = saved_by_transformers(tmp_path, before)
    assert ours.vocabulary == before.vocabulary
    unseen = "Größe, naïve café; Привет мир 你好世界 नमस्ते 12,345.67 e\u0301"
    for text in (*PLAIN, *TEXTS[:20], unseen):
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids, text


def test_what_sentencepiece_would_split_otherwise_is_refused(tmp_path):
    exported(tmp_path / "model", tiny_tokenizer())
    (tmp_path / "model" / "sentencepiece.bpe.model").unlink()
    file = tmp_path / "model" / "tokenizer.json"
    whole = json.loads(file.read_text())
    load_model(tmp_path / "model")
    vocab = whole["model"]["vocab"]
    added = [*whole["added_tokens"], {"id": 900, "content": "<new>"}]
    for changes, message in (
        ({"model": whole["model"] | {"type": "BPE"}}, "a BPE model"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "another pre_tokenizer, .*ByteLevel"),
        ({"pre_tokenizer": None}, "another pre_tokenizer"),
        ({"normalizer": {"type": "Lowercase"}}, "a normalizer with .*Lowercase"),
        ({"model": whole["model"] | {"vocab": vocab[1:]}}, "first and"),
        ({"added_tokens": added}, "expected None as token 900, found '<new>'"),
        ({"model": None}, "expected a tokenizer of transformers"),
    ):
        file.write_text(json.dumps(whole | changes))
        with pytest.raises(CheckpointError, match=rf"tokenizer\.json: .*{message}"):
            load_model(tmp_path / "model")
