"""kosmos.train.adapter, kosmos.weights.adapter, and runs with an adapter from beginning to end."""

import os
import re
import shutil
import signal
from dataclasses import replace as replace_fields
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

import kosmos
from kosmos.card.write import write_card
from kosmos.config import replace
from kosmos.errors import CheckpointError, ConfigError
from kosmos.files import Json, read_json, read_jsonl, write_json
from kosmos.findings import raise_first_error
from kosmos.model.kosmos import Kosmos
from kosmos.model.lora import LoraConfig
from kosmos.train.adapter import adapter_fields, adapter_tensors, attach
from kosmos.train.config import Run, run_rules
from kosmos.train.parallel import ALONE
from kosmos.train.trainer import train
from kosmos.weights.adapter import add_adapter, read_adapter, save_adapter
from kosmos.weights.folder import load_adapted, load_model, merge_adapter, save_model
from kosmos.weights.huggingface import export_huggingface
from kosmos.weights.loaded import LoadedModel
from kosmos.weights.quantize import quantize_folder
from tests.tiny import (
    noise_pixels,
    randomize,
    tiny_config,
    tiny_image,
    tiny_layout,
    tiny_model,
    tiny_tokenizer,
)

peft = pytest.importorskip("peft")

# W x + s B A x against (W + s B A) x in float32, of logits up to 8: 3 times the worst of 20 seeds,
# 6.4e-6 (x86 CPU, 1 and 2 threads, torch 2.13, peft 0.21.2)
TOLERANCE = 2e-5
ALL = LoraConfig(rank=3, alpha=5.0, dropout=0.0, targets=("decoder", "connector", "vision"))


def logits(model: Kosmos) -> torch.Tensor:
    """Of a row with a picture in it."""
    ids = torch.arange(3, 15).unsqueeze(0)
    slots = torch.zeros_like(ids, dtype=torch.bool)
    slots[:, 2:5] = True
    with torch.no_grad():
        soft = model.encode_images(noise_pixels(1, 28))
        return model.logits(model(ids, image_slots=slots, image_embeddings=soft))


def save_base(folder: Path, model: Kosmos) -> LoadedModel:
    tokenizer = tiny_tokenizer()
    image, layout = tiny_image(model.config), tiny_layout(model.config)
    save_model(
        folder, model=model, tokenizer=tokenizer, image=image, layout=layout, provenance=None
    )
    return load_model(folder)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model folder."""
    model = tiny_model(tiny_config(vocab_size=tiny_tokenizer().vocabulary.size))
    save_base(tmp_path / "base", model)
    return tmp_path / "base"


def adapted(base: Path, config: LoraConfig = ALL) -> Kosmos:
    """The base with an adapter that does something."""
    model = load_model(base).model
    attach(model, config, seed=1)
    learning = torch.nn.ParameterDict(
        {n.replace(".", "/"): p for n, p in model.named_parameters() if p.requires_grad}
    )
    randomize(learning, scale=0.1)
    return model.eval()


def save(folder: Path, base: Path, model: Kosmos, config: LoraConfig = ALL) -> Path:
    loaded = load_model(base)
    save_adapter(
        folder,
        tensors=adapter_tensors(model, ALONE),
        fields=adapter_fields(model, config),
        base=base,
        image=loaded.image,
        layout=loaded.layout,
        provenance={"made by": "tests"},
    )
    return folder


def test_a_fresh_adapter_changes_nothing_and_learns_alone(base: Path) -> None:
    model = load_model(base).model
    before = logits(model)
    attach(model, ALL, seed=0)
    assert torch.equal(logits(model), before)
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    # six linear layers in each of 2 + 2 layers, five in the connector, two matrices each
    assert len(learning) == 2 * (6 * 4 + 5)
    assert all(".lora_A." in name or ".lora_B." in name for name in learning)


def test_what_an_adapter_begins_with_follows_from_the_seed_alone(base: Path) -> None:
    state = torch.random.get_rng_state()
    models = [load_model(base).model for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        attach(model, ALL, seed=seed)
        torch.rand(1)
    one, same, other = (adapter_tensors(model, ALONE) for model in models)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    torch.random.set_rng_state(state)
    attach(load_model(base).model, ALL, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_merged_weights_give_the_logits_of_the_adapter(base: Path, tmp_path: Path) -> None:
    model = adapted(base)
    expected = logits(model)
    assert (expected - logits(load_model(base).model)).abs().max() > 0.1
    folder = save(tmp_path / "adapter", base, model)
    merged = load_model(folder).model
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=TOLERANCE)
    assert torch.equal(logits(kosmos.load(folder, pack=False).model), logits(merged))


def test_the_folder_is_what_peft_reads_and_merging_is_what_peft_does(
    base: Path, tmp_path: Path
) -> None:
    model = adapted(base)
    folder = save(tmp_path / "adapter", base, model)
    theirs = peft.PeftModel.from_pretrained(load_model(base).model, str(folder))
    assert torch.equal(logits(theirs.base_model.model), logits(model))
    weights = dict(theirs.merge_and_unload().named_parameters())
    for name, ours in load_model(folder).model.named_parameters():
        assert torch.equal(ours, weights[name]), name


def test_a_merged_folder_is_a_model_folder_in_the_type_asked_for(
    base: Path, tmp_path: Path
) -> None:
    folder = save(tmp_path / "adapter", base, adapted(base))
    merged = merge_adapter(base, folder, tmp_path / "merged")
    assert torch.equal(
        logits(load_model(tmp_path / "merged").model), logits(load_model(folder).model)
    )
    assert isinstance(merged.provenance, dict)
    assert merged.provenance["adapter"] == {"made by": "tests"}
    merge_adapter(base, folder, tmp_path / "half", dtype="bfloat16")
    assert load_model(tmp_path / "half", dtype="stored").model.dtype == torch.bfloat16
    quantize_folder(folder, tmp_path / "int8")
    assert load_model(tmp_path / "int8").model.dtype == torch.float32


def test_weights_of_fewer_bits_are_added_to_in_float32(base: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "adapter", base, adapted(base))
    half = load_model(base, dtype="bfloat16").model
    name = "decoder.layers.0.ffn.fc1"
    adapter = read_adapter(folder)
    reads, writes = adapter.matrices[name]
    weight = half.get_parameter(f"{name}.weight").detach().clone()
    add_adapter(half, adapter)
    expected = (weight.float() + writes @ reads * (5.0 / 3)).bfloat16()
    assert torch.equal(half.get_parameter(f"{name}.weight"), expected)


def test_the_base_may_move_but_not_change(base: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "adapter", base, adapted(base))
    expected = logits(load_model(folder).model)
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="expected its base model") as caught:
        load_model(folder)
    assert caught.value.hint == "kosmos weights merge BASE ADAPTER DST takes it from anywhere"
    found = load_adapted(folder, base=tmp_path / "elsewhere")
    assert torch.equal(logits(found.model), expected)
    model = tiny_model(found.model.config, seed=9)
    save_base(tmp_path / "other", model)
    with pytest.raises(CheckpointError, match="was trained on, found others"):
        merge_adapter(tmp_path / "other", folder, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_an_adapter_on_an_adapter_is_loaded_with_both(base: Path, tmp_path: Path) -> None:
    first = save(tmp_path / "first", base, adapted(base))
    second = save(tmp_path / "second", first, adapted(first))
    one, both = load_model(first).model, load_model(second).model
    matrices = read_adapter(second).matrices
    for name, (reads, writes) in matrices.items():
        change = both.get_parameter(f"{name}.weight") - one.get_parameter(f"{name}.weight")
        torch.testing.assert_close(change, writes @ reads * (5.0 / 3), rtol=0, atol=1e-6)


def test_a_hugging_face_folder_may_be_the_base_and_the_merged_model_become_one(
    base: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    theirs = tmp_path / "theirs"
    export_huggingface(load_model(base), theirs)
    model = adapted(theirs)
    folder = save(tmp_path / "adapter", theirs, model)
    merged = merge_adapter(theirs, folder, tmp_path / "merged")
    torch.testing.assert_close(logits(merged.model), logits(model), rtol=0, atol=TOLERANCE)
    export_huggingface(load_model(tmp_path / "merged"), tmp_path / "again")
    assert torch.equal(logits(load_model(tmp_path / "again").model), logits(merged.model))
    # any byte of the weights counts, where no config has their digests
    file = theirs / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(CheckpointError, match="found others"):
        load_model(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("use_dora", True), ("peft_type", "IA3"), ("bias", "all"), ("rank_pattern", {"fc1": 2})],
)
def test_other_kinds_of_adapters_are_refused_by_name(
    base: Path, tmp_path: Path, field: str, value: Json
) -> None:
    folder = save(tmp_path / "adapter", base, adapted(base))
    fields = read_json(folder / "adapter_config.json")
    assert isinstance(fields, dict)
    write_json(folder / "adapter_config.json", {**fields, field: value})
    with pytest.raises(CheckpointError, match=f"{field}: expected"):
        load_model(folder)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "openkosmos.json"])
def test_a_missing_file_is_named(base: Path, tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "adapter", base, adapted(base))
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_model(folder)


def test_an_adapter_of_another_shape_is_refused(base: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "adapter", base, adapted(base))
    wider = tiny_config(vocab_size=tiny_tokenizer().vocabulary.size)
    wider = replace_fields(wider, decoder=replace_fields(wider.decoder, ffn_width=80))
    with pytest.raises(CheckpointError, match=r"fc1\.weight of shape \(64, 32\), found shape \(80"):
        add_adapter(tiny_model(wider), read_adapter(folder))


# --- runs


@pytest.fixture(scope="module")
def start(run: Run, tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Path:
    """A trained model to start from."""
    return train(
        replace(run, {"train.steps": 2}),
        out=tmp_path_factory.mktemp("start") / "out",
        cache_folder=cache_folder,
    )


@pytest.fixture(scope="module")
def lora(run: Run, start: Path) -> Run:
    """A run that adapts it, with dropout on the adapter too."""
    values = {
        "parts": "start",
        "train.start_from": str(start),
        "train.adapter": LoraConfig(rank=4, targets=("decoder", "vision.ffn")),
        "train.vision": "frozen",
        "train.learning_rate": 1e-2,
        "tokenizer": str(start / "tokenizer.model"),
    }
    return replace(run, values)


@pytest.fixture(scope="module")
def finished(lora: Run, tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("lora") / "out"
    train(lora, out=out, cache_folder=cache_folder)
    return out


def test_a_run_leaves_an_adapter_and_the_merged_model(
    run: Run, start: Path, finished: Path
) -> None:
    one, other = (load_model(finished / name) for name in ("adapter", "model"))
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (other.image, other.layout) == (run.data.image, run.data.layout)
    before = dict(load_model(start).model.named_parameters())
    moved = {n for n, p in other.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {
        f"{part}.layers.{layer}.{kind}.weight"
        for part, kinds in (
            ("decoder", ("attention.query", "attention.key", "attention.value", "attention.out")),
            ("decoder", ("ffn.fc1", "ffn.fc2")),
            ("vision", ("ffn.fc1", "ffn.fc2")),
        )
        for layer in range(2)
        for kind in kinds
    }
    card = write_card(finished).read_text(encoding="utf-8")
    for name in ("adapter", "model"):
        assert re.search(rf"^- \[{name}\]\({name}\), of step \d+: `\w+.safetensors`", card, re.M)


def test_checkpoints_hold_the_adapter_alone(finished: Path) -> None:
    last = max((finished / "checkpoints").iterdir())
    names = FileSystemReader(last).read_metadata().state_dict_metadata
    tensors = [name for name in names if not name.startswith("optimizer.param_groups.")]
    # two matrices of 6 layers in the decoder and 2 in the tower, twice: weights, and a step and
    # two moments of each
    assert len(tensors) == 2 * 2 * (6 + 2) * (1 + 3)
    assert all(".lora_" in name for name in tensors)


def test_a_stopped_run_goes_on_to_the_same_adapter(
    lora: Run, finished: Path, tmp_path: Path, cache_folder: Path
) -> None:
    def interrupt(record: dict[str, Json]) -> None:
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(lora, out=out, cache_folder=cache_folder, on_step=interrupt)
    train(lora, out=out, cache_folder=cache_folder, resume=True)
    ours, theirs = (read_adapter(folder / "adapter").matrices for folder in (out, finished))
    assert ours.keys() == theirs.keys()
    for name, pair in ours.items():
        assert all(torch.equal(a, b) for a, b in zip(pair, theirs[name], strict=True))


def test_a_run_goes_on_only_from_the_weights_that_it_began_with(
    lora: Run, start: Path, finished: Path, tmp_path: Path, cache_folder: Path
) -> None:
    copy, out = tmp_path / "start", tmp_path / "out"
    shutil.copytree(start, copy)
    moved = replace(
        lora, {"train.start_from": str(copy), "train.steps": 2, "train.warmup_steps": 1}
    )
    train(moved, out=out, cache_folder=cache_folder)
    loaded = load_model(start)
    randomize(loaded.model)
    save_model(
        copy,
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        image=loaded.image,
        layout=loaded.layout,
        provenance=None,
    )
    with pytest.raises(CheckpointError, match="start"):
        train(moved, out=out, cache_folder=cache_folder, resume=True)


def test_only_the_adapter_is_left_if_it_is_not_to_be_merged(
    lora: Run, tmp_path: Path, cache_folder: Path
) -> None:
    run = replace(lora, {"train.adapter.merge": False, "train.steps": 2, "train.warmup_steps": 1})
    folder = train(run, out=tmp_path / "out", cache_folder=cache_folder)
    assert folder == tmp_path / "out" / "adapter"
    assert not (tmp_path / "out" / "model").exists()
    assert load_model(folder).layout == run.data.layout


def test_held_out_data_is_measured_before_the_first_step(finished: Path) -> None:
    rows = [row for row in read_jsonl(finished / "metrics.jsonl") if isinstance(row, dict)]
    assert [row["step"] for row in rows if row["kind"] == "heldout"] == [0, 3, 6]
    assert rows[0]["kind"] == "heldout"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train.vision": "all"}, "train.vision: expected 'frozen' with an adapter"),
        ({"train.objective": "regions"}, "train.objective='next-token'"),
        ({"train.adapter.targets": ("decoder.atention",)}, "found 'decoder.atention'"),
    ],
)
def test_what_does_not_go_with_an_adapter_is_refused(
    lora: Run, values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        raise_first_error(run_rules(replace(lora, values)))


def test_an_adapter_needs_a_whole_model_to_start_from(
    run: Run, lora: Run, start: Path, tmp_path: Path, cache_folder: Path
) -> None:
    alone = replace(lora, {"parts": "stated", "train.start_from": ""})
    with pytest.raises(ConfigError, match=r"expected the model that train\.adapter adapts"):
        train(alone, out=tmp_path / "out", cache_folder=cache_folder)
    text = replace_fields(run.model, vision=None, connector=None)
    words = tuple(stream for stream in run.data.streams if stream.name == "text")
    blind = replace(run, {"model": text, "streams": words, "train.steps": 2})
    folder = train(blind, out=tmp_path / "blind", cache_folder=cache_folder)
    seeing = replace(lora, {"parts": "stated", "train.start_from": str(folder)})
    with pytest.raises(CheckpointError, match="found none for connector, vision"):
        train(seeing, out=tmp_path / "out", cache_folder=cache_folder)
