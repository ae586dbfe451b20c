"""kosmos weights: import, export, merge, verify; words for people and JSON for programs."""

import dataclasses
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from kosmos.cli.main import main
from kosmos.config import to_json
from kosmos.files import write_json
from kosmos.recipes.table import make_run
from kosmos.weights.adapter import save_adapter
from kosmos.weights.convert import rename
from kosmos.weights.folder import load_model, save_model
from kosmos.weights.huggingface_config import image_fields, model_fields
from kosmos.weights.loaded import tensors_of
from kosmos.weights.names import CLIP_VISION, HUGGINGFACE
from kosmos.weights.tensors import write_tensors
from tests.release import release_config, write_release
from tests.tiny import tiny_config, tiny_image, tiny_layout, tiny_model, tiny_tokenizer


def run(capsys, *arguments) -> tuple[int, str, str]:
    try:
        main(["weights", *map(str, arguments)])
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def config():
    return tiny_config(vocab_size=tiny_tokenizer().vocabulary.size)


@pytest.fixture
def theirs(tmp_path, config):
    folder = tmp_path / "theirs"
    folder.mkdir()
    model = tiny_model(config)
    write_json(folder / "config.json", model_fields(config))
    write_json(folder / "preprocessor_config.json", image_fields(tiny_image(config)))
    write_tensors(folder, {rename(n, HUGGINGFACE): t for n, t in tensors_of(model).items()})
    tiny_tokenizer().save(folder / "sentencepiece.bpe.model")
    return folder


def test_import_export_and_verify_agree(capsys, theirs, tmp_path):
    pytest.importorskip("transformers")
    code, out, _ = run(capsys, "import", theirs, tmp_path / "ours", "--json")
    assert code == 0
    assert json.loads(out)["dtype"] == "float32"
    code, out, _ = run(capsys, "export", tmp_path / "ours", tmp_path / "again")
    assert code == 0
    assert "parameters, float32" in out
    for other in ("theirs", "again"):
        code, out, _ = run(capsys, "verify", tmp_path / "ours", tmp_path / other, "--json")
        assert code == 0
        assert json.loads(out)["passed"] is True


def test_verify_fails_with_1_and_says_where(capsys, tmp_path, config):
    for seed, name in enumerate(("a", "b")):
        save_model(
            tmp_path / name,
            model=tiny_model(config, seed=seed),
            tokenizer=tiny_tokenizer(),
            image=tiny_image(config),
            layout=tiny_layout(config),
            provenance=None,
        )
    code, out, err = run(capsys, "verify", tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert "expected the same model, found another" in err
    assert "tensors  93, largest difference" in out


def test_existing_target_needs_force(capsys, theirs, tmp_path):
    (tmp_path / "ours").mkdir()
    code, _, err = run(capsys, "import", theirs, tmp_path / "ours")
    assert code == 2
    assert "error: " in err
    assert "hint: --force replaces it" in err
    assert run(capsys, "import", theirs, tmp_path / "ours", "--force")[0] == 0


def test_tokenizer_of_a_folder_without_one_is_given(capsys, theirs, tmp_path):
    (theirs / "sentencepiece.bpe.model").rename(tmp_path / "my.model")
    code, _, err = run(capsys, "import", theirs, tmp_path / "ours")
    assert code == 1
    assert "hint: copy sentencepiece.bpe.model" in err
    options = ("--tokenizer", tmp_path / "my.model")
    assert run(capsys, "import", theirs, tmp_path / "ours", *options)[0] == 0


def test_file_of_the_release_is_imported_and_verified(capsys, tmp_path):
    file = write_release(tmp_path / "kosmos-2.pt", tiny_model(release_config()))
    code, _, err = run(capsys, "import", file, tmp_path / "ours")
    assert code == 1
    assert "kosmos-2/data of microsoft/unilm; name it with --tokenizer" in err
    tiny_tokenizer().save(tmp_path / "my.model")
    options = ("--tokenizer", tmp_path / "my.model")
    code, out, err = run(capsys, "import", file, tmp_path / "ours", *options)
    assert code == 0, err
    assert out.splitlines()[1:] == [
        "left out  3 tensors: gpt_model.decoder.embed_positions._float_tensor, "
        "gpt_model.decoder.output_projection.weight, gpt_model.decoder.self_attn_sope.scale",
        "left out  7 entries: args, cfg, criterion, extra_state, last_optimizer_state, "
        "optimizer_history, task_state",
    ]
    assert "self_attn_sope" in (tmp_path / "ours" / "README.md").read_text()
    code, out, _ = run(capsys, "import", file, tmp_path / "ours", *options, "--force", "--json")
    assert code == 0
    assert len(json.loads(out)["left_out"]) == 3
    code, out, _ = run(capsys, "verify", tmp_path / "ours", file)
    assert code == 0
    assert out.endswith("the same model\n")


def test_clip_becomes_the_tower_of_a_fresh_model(capsys, tmp_path, config):
    clip = tmp_path / "clip"
    clip.mkdir()
    tower = tiny_model(config).vision
    tensors = {rename(n, CLIP_VISION): p.detach() for n, p in tower.named_parameters()}
    save_file({**tensors, "logit_scale": torch.tensor(1.0)}, clip / "model.safetensors")
    vision = model_fields(config)["vision_config"]
    write_json(clip / "config.json", {**vision, "model_type": "clip_vision_model"})
    tiny_tokenizer().save(tmp_path / "my.model")
    micro = make_run("microcosm")
    start = dataclasses.replace(
        micro,
        model=dataclasses.replace(micro.model, vision=config.vision),
        data=dataclasses.replace(
            micro.data,
            image=tiny_image(config),
            tokenizer=str(tmp_path / "my.model"),
            num_cells=4,
        ),
    )
    write_json(tmp_path / "run.json", to_json(start))
    options = ("--format", "clip", "--recipe", tmp_path / "run.json")
    code, _, err = run(capsys, "import", clip, tmp_path / "start", *options)
    assert code == 0, err
    loaded = load_model(tmp_path / "start")
    for name, value in tower.named_parameters():
        assert torch.equal(loaded.model.vision.get_parameter(name), value)
    assert loaded.provenance["left_out"] == ["logit_scale"]
    assert loaded.model.config.connector == micro.model.connector


def test_clip_without_a_tokenizer_says_which_setting(capsys, tmp_path):
    clip = tmp_path / "clip"
    code, _, err = run(capsys, "import", clip, tmp_path / "start", "--format", "clip")
    assert code == 2
    assert "hint: --set tokenizer=my.model" in err


def test_merge_adds_an_adapter_to_its_base(capsys, theirs, config, tmp_path):
    name, rank = "decoder.layers.0.attention.value", 2
    width = config.decoder.width
    save_adapter(
        tmp_path / "adapter",
        tensors={
            f"{name}.lora_A.weight": torch.ones(rank, width),
            f"{name}.lora_B.weight": torch.full((width, rank), 0.25),
        },
        fields={"peft_type": "LORA", "r": rank, "lora_alpha": 4},
        base=theirs,
        image=tiny_image(config),
        layout=tiny_layout(config),
        provenance=None,
    )
    code, out, _ = run(capsys, "merge", theirs, tmp_path / "adapter", tmp_path / "merged", "--json")
    assert code == 0
    assert json.loads(out)["folder"] == str(tmp_path / "merged")
    before, after = (load_model(tmp_path / folder).model for folder in ("theirs", "merged"))
    change = after.get_parameter(f"{name}.weight") - before.get_parameter(f"{name}.weight")
    torch.testing.assert_close(change, torch.full((width, width), 2 * 2 * 0.25))
    code, _, err = run(capsys, "merge", theirs, tmp_path / "adapter", tmp_path / "merged")
    assert code == 2
    assert "--force replaces it" in err
    code, _, err = run(capsys, "merge", tmp_path / "merged", tmp_path / "adapter", tmp_path / "x")
    assert code == 1
    assert "found others" in err


@pytest.mark.parametrize("place", ["{}", "{}/new", "{}/.."])
@pytest.mark.parametrize("verb", ["import", "export", "quantize"])
def test_what_is_read_is_never_replaced(capsys, theirs, verb, place):
    before = {file.name: file.read_bytes() for file in theirs.iterdir()}
    code, _, err = run(capsys, verb, theirs, place.format(theirs), "--force")
    assert code == 2
    assert f"expected a folder apart from {theirs}, found" in err
    assert {file.name: file.read_bytes() for file in theirs.iterdir()} == before


@pytest.mark.parametrize(
    ("verb", "what"),
    [("import", "a model folder"), ("export", "an earlier export"), ("quantize", "a quantized")],
)
def test_force_replaces_earlier_results_and_no_others(capsys, theirs, tmp_path, config, verb, what):
    if verb == "export":
        pytest.importorskip("transformers")
    options = ("--force", "--prompts", "0") if verb == "quantize" else ("--force",)
    other = theirs.with_name("other")
    shutil.copytree(theirs, other)  # as it was downloaded, or saved by somebody else
    code, _, err = run(capsys, verb, theirs, other, *options)
    assert code == 2
    assert what in err
    assert "sentencepiece.bpe.model" in err or "found another folder" in err
    assert {file.name for file in other.iterdir()} == {file.name for file in theirs.iterdir()}
    target = tmp_path / "target"
    for _ in range(2):
        assert run(capsys, verb, theirs, target, *options)[0] == 0
    (target / "notes.txt").write_text("mine")
    code, _, err = run(capsys, verb, theirs, target, *options)
    assert code == 2
    assert "found 'notes.txt' in it" in err
    assert (target / "notes.txt").read_text() == "mine"


def test_quantized_weights_replace_none_of_full_precision(capsys, theirs, tmp_path):
    assert run(capsys, "import", theirs, tmp_path / "ours")[0] == 0
    before = (tmp_path / "ours" / "model.safetensors").read_bytes()
    code, _, err = run(capsys, "quantize", theirs, tmp_path / "ours", "--force")
    assert code == 2
    assert "a quantized model folder, which may be replaced, found another folder" in err
    assert (tmp_path / "ours" / "model.safetensors").read_bytes() == before
