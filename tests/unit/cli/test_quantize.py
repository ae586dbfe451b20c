"""kosmos weights quantize: a smaller folder, and what it costs, in words and as JSON."""

import json

import numpy as np
import PIL.Image
import pytest

from kosmos.cli.main import main
from kosmos.weights.folder import load_model, save_model
from tests.tiny import tiny_config, tiny_image, tiny_layout, tiny_model, tiny_tokenizer


def run(capsys, *arguments) -> tuple[int, str, str]:
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(params=[True, False], ids=["sees", "reads"])
def folder(request, tmp_path):
    tokenizer = tiny_tokenizer()
    config = tiny_config(vocab_size=tokenizer.vocabulary.size, vision=request.param)
    save_model(
        tmp_path / "model",
        model=tiny_model(config),
        tokenizer=tokenizer,
        image=tiny_image(config),
        layout=tiny_layout(config),
        provenance=None,
    )
    return tmp_path / "model"


def test_size_time_peak_and_cost_are_told(capsys, folder):
    target = folder.with_name("int8")
    options = ("--prompts", "2", "--tokens", "3")
    code, out, err = run(capsys, "weights", "quantize", folder, target, *options)
    assert code == 0, err
    sees = load_model(target).model.vision is not None
    for words in ("parameters, int8", "GB before", "peak memory", "words    same next token at"):
        assert words in out
    assert ("pictures same next token at" in out) == sees
    code, _, err = run(capsys, "weights", "quantize", folder, target, *options)
    assert code == 2
    assert "hint: --force replaces it" in err
    code, out, _ = run(capsys, "weights", "quantize", folder, target, *options, "--force", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["bytes_after"] < facts["bytes_before"]
    assert set(facts["cost"]) == ({"words", "pictures"} if sees else {"words"})
    for cost in facts["cost"].values():
        assert 0 < cost["num_tokens"] <= 6
        assert 0 <= cost["same_token"] <= 1
        assert cost["mean_kl"] >= 0
        assert 0 < cost["mean_logit_difference"] <= cost["max_logit_difference"]


@pytest.mark.parametrize("folder", [True], indirect=True, ids=["sees"])
def test_cost_is_measured_on_the_pictures_given(capsys, folder, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    code, _, err = run(capsys, "weights", "quantize", folder, tmp_path / "int8", "--images", photos)
    assert code == 1
    assert "expected pictures" in err
    assert not (tmp_path / "int8").exists()
    rng = np.random.default_rng(0)
    PIL.Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(photos / "a.png")
    options = ("--images", photos, "--tokens", "2", "--json")
    code, out, err = run(capsys, "weights", "quantize", folder, tmp_path / "int8", *options)
    assert code == 0, err
    assert json.loads(out)["cost"]["pictures"]["num_tokens"] <= 2


def test_nothing_is_measured_where_no_prompts_are_wanted(capsys, folder, tmp_path):
    options = ("--prompts", "0", "--json")
    code, out, _ = run(capsys, "weights", "quantize", folder, tmp_path / "int8", *options)
    assert code == 0
    assert "cost" not in json.loads(out)


@pytest.mark.parametrize("folder", [True], indirect=True, ids=["sees"])
def test_switch_of_answering_commands_quantizes(capsys, folder, tmp_path):
    photo = tmp_path / "photo.png"
    PIL.Image.new("RGB", (28, 28), "red").save(photo)
    common = ("--image", photo, "--max-new-tokens", "4", "--json")
    run(capsys, "weights", "quantize", folder, tmp_path / "int8", "--prompts", "0")
    replies = []
    for options in (
        ("--model", tmp_path / "int8"),
        ("--model", folder, "--quantize", "int8"),
    ):
        code, out, err = run(capsys, "caption", *options, *common)
        assert code == 0, err
        replies.append(json.loads(out))
    assert replies[0] == replies[1]
    code, _, err = run(capsys, "caption", "--model", folder, "--quantize", "int3", *common)
    assert code == 2
    assert "int3" in err
