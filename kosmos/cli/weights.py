"""``kosmos weights``: model folders made, merged, compared and turned into other people's."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kosmos.cli.options import PATH, echo_json, json_option, set_option
from kosmos.cli.quantize import check_target
from kosmos.cli.quantize import command as quantize

if TYPE_CHECKING:
    from kosmos.weights.loaded import LoadedModel

_NUM_LISTED = 8


@click.group()
def command() -> None:
    """Import, export, merge, verify and quantize model folders."""


command.add_command(quantize)


@command.command("import", short_help="Other people's weights into a model folder.")
@click.argument("source", type=PATH)
@click.argument("target", type=PATH)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["hf", "fairseq", "clip"]),
    help="What SOURCE is.  [default: hf for a folder, fairseq for a file]",
)
@click.option(
    "--tokenizer", type=PATH, help="hf, fairseq: SentencePiece model, if SOURCE has none."
)
@click.option("--recipe", default="kosmos1", help="clip: recipe of the model.")
@set_option("clip: change a field of the recipe.")
@click.option("--force", is_flag=True, help="Replace an earlier result at TARGET.")
@json_option()
def import_(
    source: Path,
    target: Path,
    kind: str | None,
    tokenizer: Path | None,
    recipe: str,
    assignments: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Write SOURCE as a model folder of ours at TARGET, weights in their own type.

    hf: a Hugging Face Kosmos-2 folder. fairseq: the original release's checkpoint, read without
    running anything that is in it. clip: a Hugging Face CLIP folder, as the vision tower of an
    otherwise fresh model of a recipe.

    Example: kosmos weights import kosmos-2-patch14-224 kosmos2

    Example: kosmos weights import kosmos-2.pt kosmos2 --tokenizer sentencepiece.bpe.model

    Example: kosmos weights import clip-vit-l14 start --format clip --set tokenizer=my.model
    """
    from kosmos.weights.fairseq import import_fairseq
    from kosmos.weights.folder import save_model
    from kosmos.weights.folder_config import check_model_folder
    from kosmos.weights.huggingface import import_huggingface

    check_target(target, source, check=check_model_folder, force=force)
    if kind == "clip":
        loaded = _from_clip(source, recipe, assignments)
    elif kind == "fairseq" or (kind is None and source.is_file()):
        loaded = import_fairseq(source, dtype="stored", tokenizer=tokenizer)
    else:
        loaded = import_huggingface(source, dtype="stored", tokenizer=tokenizer)
    parts = ("model", "tokenizer", "image", "layout", "provenance")
    save_model(target, **{name: getattr(loaded, name) for name in parts})
    _tell(target, loaded, as_json=as_json, imported=True)


@command.command("export", short_help="A model folder into a Hugging Face one.")
@click.argument("source", type=PATH)
@click.argument("target", type=PATH)
@click.option(
    "--format", "kind", type=click.Choice(["hf"]), default="hf", help="What TARGET will be."
)
@click.option("--max-shard-gb", default=5.0, help="Largest weight file, in GB.")
@click.option("--force", is_flag=True, help="Replace an earlier result at TARGET.")
@json_option()
def export(
    source: Path, target: Path, kind: str, max_shard_gb: float, force: bool, as_json: bool
) -> None:
    """Write the model folder SOURCE as a Hugging Face Kosmos-2 folder at TARGET.

    Example: kosmos weights export runs/kosmos2/model kosmos2-hf
    """
    from kosmos.weights.folder import load_model
    from kosmos.weights.huggingface import check_export, export_huggingface

    del kind  # one so far
    check_target(target, source, check=check_export, force=force)
    loaded = load_model(source, dtype="stored")
    export_huggingface(loaded, target, max_shard_bytes=int(max_shard_gb * 1e9))
    _tell(target, loaded, as_json=as_json)


@command.command("merge", short_help="A model and its adapter into one model folder.")
@click.argument("base", type=PATH)
@click.argument("adapter", type=PATH)
@click.argument("target", type=PATH)
@click.option(
    "--dtype",
    type=click.Choice(["stored", "float32", "bfloat16", "float16"]),
    default="stored",
    help="Of the weights; stored: as BASE has them.",
)
@click.option("--force", is_flag=True, help="Replace an earlier result at TARGET.")
@json_option()
def merge(base: Path, adapter: Path, target: Path, dtype: str, force: bool, as_json: bool) -> None:
    """Write the model BASE with ADAPTER added to its weights as a model folder of ours at TARGET.

    BASE, a folder of ours or of Hugging Face's, must hold the weights that ADAPTER was trained on,
    wherever they were then.

    Example: kosmos weights merge kosmos-2-patch14-224 runs/mine/adapter mine
    """
    from kosmos.weights.folder import merge_adapter
    from kosmos.weights.folder_config import check_model_folder

    check_target(target, base, adapter, check=check_model_folder, force=force)
    _tell(target, merge_adapter(base, adapter, target, dtype=dtype), as_json=as_json)


@command.command("verify", short_help="Compare two model folders.")
@click.argument("source", type=PATH)
@click.argument("target", type=PATH)
@click.option("--seed", default=0, help="Seed of the random inputs.")
@json_option()
def verify(source: Path, target: Path, seed: int, as_json: bool) -> None:
    """Compare two models: every tensor, and the logits of random inputs.

    Each is a folder of ours or of Hugging Face's, or the release's .pt. Exits with 1 if they are
    not the same model.

    Example: kosmos weights verify kosmos2 kosmos-2-patch14-224
    """
    from kosmos.errors import CheckpointError
    from kosmos.weights.verify import verify as compare

    found = compare(source, target, seed=seed)
    names = ("max_tensor_difference", "worst_tensor", "max_logit_difference", "max_logit")
    if as_json:
        facts = {"passed": found.passed, "num_tensors": len(found.tensor_differences)}
        echo_json(facts | {name: getattr(found, name) for name in (*names, "damaged")})
    else:
        click.echo(
            f"tensors  {len(found.tensor_differences)}, largest difference "
            f"{found.max_tensor_difference:.3g} in {found.worst_tensor}\n"
            f"logits   largest difference {found.max_logit_difference:.3g} "
            f"of values up to {found.max_logit:.3g}"
        )
        for problem in found.damaged:
            click.echo(f"damaged  {problem}")
    if not found.passed:
        raise CheckpointError(f"{source} and {target}: expected the same model, found another")
    if not as_json:
        click.echo("the same model")


def _from_clip(source: Path, recipe: str, assignments: tuple[str, ...]) -> "LoadedModel":
    """A fresh model of a recipe with CLIP's weights in its vision tower."""
    from kosmos.errors import ConfigError
    from kosmos.model.config import with_vocabulary
    from kosmos.model.initialize import initialize
    from kosmos.model.kosmos import Kosmos
    from kosmos.recipes.table import make_run
    from kosmos.text.tokenizer import Tokenizer
    from kosmos.weights.clip import load_clip
    from kosmos.weights.loaded import LoadedModel

    run = make_run(recipe, assignments)
    if not run.data.tokenizer:
        raise ConfigError("tokenizer: expected a file", hint="--set tokenizer=my.model")
    tokenizer = Tokenizer.load(run.data.tokenizer, num_cells=run.data.num_cells)
    model = Kosmos(with_vocabulary(run.model, tokenizer.vocabulary.size))
    if model.vision is None:
        raise ConfigError(f"{recipe}: expected a recipe with a vision tower, found a baseline")
    initialize(model, run.seed)
    left_out = load_clip(model.vision, source)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        image=run.answer_image,
        layout=run.answer_layout,
        provenance={
            "initialized_as": recipe,
            "seed": run.seed,
            "vision_from": source.resolve().name,
            "left_out": list(left_out),
        },
    )


def _tell(target: Path, loaded: "LoadedModel", *, as_json: bool, imported: bool = False) -> None:
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    facts: dict[str, object] = {"folder": target, "num_parameters": parameters, "dtype": dtype}
    words = f"{target}  {parameters:,} parameters, {dtype}"
    provenance = loaded.provenance if imported else None
    for key, what in (("left_out", "tensors"), ("entries_left_out", "entries")):
        names = provenance.get(key) if isinstance(provenance, dict) else None
        if isinstance(names, list):
            facts[key] = names
            rest = f" and {len(names) - _NUM_LISTED} more" if len(names) > _NUM_LISTED else ""
            listed = ", ".join(map(str, names[:_NUM_LISTED])) + rest
            words += f"\nleft out  {len(names)} {what}" + (f": {listed}" if names else "")
    if as_json:
        echo_json(facts)
    else:
        click.echo(words)
