"""The released model at full size, with random weights: time and peak memory of every stage.

Run ``python benchmarks/full_size.py --photos FOLDER --tokenizer sentencepiece.bpe.model --work
SCRATCH [--json FILE]``. Needs about 14 GB of disk in SCRATCH, which it gives back. Each stage is a
process of its own, so that its peak memory (VmHWM) is its own; it ends with 1 if a reply has not
the form it must have, or our model and transformers' disagree.

The released weights are not here, so words are noise; sizes, times and agreement are not.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from kosmos.boxes import Box
from kosmos.cli.main import cli
from kosmos.document.layout import INFERENCE
from kosmos.document.pixels import load_pixels
from kosmos.document.types import Document, Image, Text
from kosmos.files import Json, write_json
from kosmos.generate.generator import Generator
from kosmos.generate.reply import Reply
from kosmos.image.config import ImageConfig
from kosmos.image.transform import ImageTransform
from kosmos.model.config import PRESETS, with_vocabulary
from kosmos.model.initialize import initialize
from kosmos.model.kosmos import Kosmos
from kosmos.runtime import peak_memory_bytes
from kosmos.text import prompts
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights.huggingface import export_huggingface
from kosmos.weights.loaded import LoadedModel
from kosmos.weights.verify import LOGIT_TOLERANCE, verify

SUFFIXES = {".jpg", ".jpeg", ".png"}
Facts = dict[str, Json]


def export_stage(args: argparse.Namespace) -> Facts:
    """Seeded random weights, written as a Hugging Face folder."""
    tokenizer = Tokenizer.load(args.tokenizer, num_cells=32)
    config = with_vocabulary(PRESETS[args.preset], tokenizer.vocabulary.size)
    assert config.vision is not None
    assert config.connector is not None
    model = Kosmos(config)
    initialize(model, args.seed)
    loaded = LoadedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        image=ImageConfig(size=config.vision.image_size),
        layout=replace(INFERENCE, num_image_tokens=config.connector.num_queries),
    )
    export_huggingface(loaded, args.work / "hf")
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": sum(f.stat().st_size for f in (args.work / "hf").iterdir()),
    }


def import_stage(args: argparse.Namespace) -> Facts:
    """The command ``kosmos weights import``."""
    words = ["weights", "import", str(args.work / "hf"), str(args.work / "ours"), "--json"]
    cli.main(words, prog_name="kosmos", standalone_mode=False)
    return {}


def caption_stage(args: argparse.Namespace) -> Facts:
    """A caption of every photograph, all at once, and of one alone."""
    return _generate(args, prompts.CAPTION)


def ground_stage(args: argparse.Namespace) -> Facts:
    """The same with boxes asked for, and the score of two boxes."""
    return _generate(args, prompts.GROUNDED_CAPTION)


def verify_stage(args: argparse.Namespace) -> Facts:
    """What ``kosmos weights verify`` compares: all tensors, and logits of random inputs."""
    found = verify(args.work / "ours", args.work / "hf", seed=args.seed)
    return {
        "passed": found.passed,
        "tensors": len(found.tensor_differences),
        "max_tensor_difference": found.max_tensor_difference,
        "max_logit_difference": found.max_logit_difference,
        "max_logit": found.max_logit,
    }


def photo_stage(args: argparse.Namespace) -> Facts:
    """Logits behind a photograph and a prompt: ours, then those of transformers."""
    import transformers

    photo = _photos(args.photos)[0]
    generator = Generator.load(args.work / "ours")
    doc = Document([Image(photo), Text(prompts.GROUNDED_CAPTION)])
    encoded = generator.encode(doc)
    ours = generator.logits(doc)
    pixels = load_pixels(encoded.images, ImageTransform(generator.image))
    del generator
    model = transformers.Kosmos2ForConditionalGeneration.from_pretrained(
        args.work / "hf", dtype=torch.float32, local_files_only=True
    ).eval()
    with torch.inference_mode():
        theirs = model(
            pixel_values=torch.from_numpy(pixels),
            input_ids=torch.from_numpy(encoded.token_ids)[None],
            image_embeds_position_mask=torch.from_numpy(encoded.image_slots)[None],
        ).logits[0]
    difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    return {
        "photo": photo.name,
        "passed": difference <= LOGIT_TOLERANCE * max(largest, 1.0),
        "max_logit_difference": difference,
        "max_logit": largest,
        "same_choice": (ours.argmax(1) == theirs.argmax(1)).float().mean().item(),
    }


STAGES: dict[str, Callable[[argparse.Namespace], Facts]] = {
    "export": export_stage,
    "import": import_stage,
    "caption": caption_stage,
    "ground": ground_stage,
    "verify": verify_stage,
    "photo": photo_stage,
}


def _generate(args: argparse.Namespace, prompt: str) -> Facts:
    began_s = time.perf_counter()
    generator = Generator.load(args.work / "ours", dtype="float32")
    loaded_s = time.perf_counter()
    photos = _photos(args.photos)
    docs = [Document([Image(photo), Text(prompt)], id=photo.name) for photo in photos]
    alone = generator.generate(docs[0], max_new_tokens=args.max_new_tokens)
    alone_s = time.perf_counter()
    replies = generator.generate(docs, max_new_tokens=args.max_new_tokens)
    together_s = time.perf_counter()
    problems = [
        f"{photo.name}: {problem}"
        for photo, reply in zip([photos[0], *photos], [alone, *replies], strict=True)
        for problem in _problems(reply, args.max_new_tokens)
    ]
    facts: Facts = {
        "load_s": round(loaded_s - began_s, 2),
        "one_photo_s": round(alone_s - loaded_s, 2),
        "all_photos_s": round(together_s - alone_s, 2),
        "photos": len(photos),
        "new_tokens": sum(len(reply.token_ids) for reply in replies),
        "passed": not problems,
        "problems": list[Json](problems),
        "replies": {p.name: r.markup for p, r in zip(photos, replies, strict=True)},
    }
    if prompt == prompts.GROUNDED_CAPTION:
        asked = Document([Image(photos[0]), Text(prompts.phrase("a dog"))])
        corners = ("<patch_index_0000><patch_index_1023>", "<patch_index_0044><patch_index_0863>")
        scores = generator.score(asked, [f"<object>{pair}</object>" for pair in corners])
        facts["box_logprobs"] = [round(score.logprob, 3) for score in scores]
        facts["passed"] = not problems and all(math.isfinite(s.logprob) for s in scores)
    return facts


def _problems(reply: Reply, max_new_tokens: int) -> list[str]:
    """What a reply has that no reply may have."""
    problems = []
    if not 0 < len(reply.token_ids) <= max_new_tokens:
        problems.append(f"expected 1 to {max_new_tokens} tokens, found {len(reply.token_ids)}")
    if reply.finish == "length" and len(reply.token_ids) != max_new_tokens:
        problems.append(f"finish {reply.finish!r} after {len(reply.token_ids)} tokens")
    if not (math.isfinite(reply.logprob) and reply.logprob <= 0.0):
        problems.append(f"logprob {reply.logprob}")
    for span in reply.grounded:
        if reply.text[span.start : span.end] != span.text:
            problems.append(f"span {span.text!r} is not at {span.start}:{span.end}")
        if not all(_is_inside(box) for box in span.boxes):
            problems.append(f"boxes {span.boxes} outside the picture")
    return problems


def _is_inside(box: Box) -> bool:
    return 0.0 <= box.x0 < box.x1 <= 1.0 and 0.0 <= box.y0 < box.y1 <= 1.0


def _photos(folder: Path) -> list[Path]:
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not photos:
        sys.exit(f"{folder}: expected photographs, found none")
    return photos


def _run_stage(name: str) -> Facts:
    """A stage in a process of its own; the last line it prints is what it found."""
    began_s = time.perf_counter()
    command = [sys.executable, *sys.argv, "--stage", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    facts: Facts = json.loads(done.stdout.splitlines()[-1])
    facts["time_s"] = round(time.perf_counter() - began_s, 1)
    return facts


def _print_row(name: str, facts: Facts) -> None:
    peak = float(facts["peak_bytes"]) / 1e9  # type: ignore[arg-type]
    shown = {k: v for k, v in facts.items() if k not in ("time_s", "peak_bytes", "replies")}
    words = ", ".join(f"{key} {value}" for key, value in shown.items() if value != [])
    print(f"| {name} | {facts['time_s']} | {peak:.2f} | {words} |", flush=True)


def main() -> int:
    """Run the stages and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--tokenizer", type=Path, required=True, help="SentencePiece model")
    parser.add_argument("--work", type=Path, required=True, help="folder for 14 GB of weights")
    parser.add_argument("--preset", default="kosmos2-released", help="smaller ones try the script")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for everything measured")
    parser.add_argument("--keep", action="store_true", help="leave the weights in --work")
    parser.add_argument("--stage", choices=[*STAGES], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        facts = STAGES[args.stage](args)
        print(json.dumps({**facts, "peak_bytes": peak_memory_bytes()}))
        return 0
    args.work.mkdir(parents=True, exist_ok=True)
    found: dict[str, Json] = {}
    print(f"{args.preset}, float32, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| stage | time, s | peak memory, GB | found |\n|---|--:|--:|---|")
    try:
        for name in STAGES:
            facts = _run_stage(name)
            found[name] = facts
            _print_row(name, facts)
    finally:
        if not args.keep:
            for folder in ("hf", "ours"):
                shutil.rmtree(args.work / folder, ignore_errors=True)
        if args.json:
            write_json(args.json, found)
    return 0 if all(f.get("passed", True) for f in found.values() if isinstance(f, dict)) else 1


if __name__ == "__main__":
    sys.exit(main())
