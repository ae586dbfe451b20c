"""Tokenizer files for transformers, from the SentencePiece model that ours is.

What Hugging Face's Kosmos-2 uses is an XLM-RoBERTa tokenizer over the same pieces (ids shifted by
one), to which its processor adds the tags and the location tokens in the release's order.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from kosmos.errors import CheckpointError
from kosmos.files import Json, read_json, write_json
from kosmos.runtime import require
from kosmos.text.sentencepiece_model import PieceKind, SentencePieceModel, read_sentencepiece
from kosmos.text.tokenizer import Tokenizer

SPACE = "▁"
SPECIAL = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json``.

    Every control token of our vocabulary is added under its id, so the files give our ids without
    the Kosmos-2 processor as well as with it.

    Raises:
        CheckpointError: If the tokenizer is of a kind that transformers would read differently.
        MissingExtraError: If transformers is not installed.
    """
    model = read_sentencepiece(tokenizer.model_bytes)
    _check(model)
    transformers = require("transformers", extra="huggingface")
    fast: Any = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_build(model), add_prefix_space=True, **SPECIAL
    )
    vocabulary = tokenizer.vocabulary
    first = vocabulary.mask_id + 1
    tokens = [vocabulary.control_token(index) for index in range(first, vocabulary.size)]
    added = require("tokenizers", extra="huggingface").AddedToken
    # as the Kosmos-2 processor adds them: not special, they survive when special ones are dropped
    fast.add_tokens([added(token, lstrip=True, rstrip=False, normalized=False) for token in tokens])
    if len(fast) != vocabulary.size:
        raise CheckpointError(
            f"export: expected a tokenizer of {vocabulary.size} ids, built one of {len(fast)}",
            hint="a piece of the SentencePiece model is spelled like a control token",
        )
    # transformers writes several files; only those that are known are wanted
    with tempfile.TemporaryDirectory() as scratch:
        fast.save_pretrained(scratch)
        shutil.copyfile(Path(scratch) / "tokenizer.json", folder / "tokenizer.json")
        fields = read_json(Path(scratch) / "tokenizer_config.json")
    assert isinstance(fields, dict)
    # the class that older versions know; it has no byte fallback
    kind: Json = "PreTrainedTokenizerFast" if model.byte_fallback else "XLMRobertaTokenizer"
    fields.update({"tokenizer_class": kind, "processor_class": "Kosmos2Processor"})
    fields.pop("backend", None)
    write_json(folder / "tokenizer_config.json", fields)


def _check(model: SentencePieceModel) -> None:
    kinds = {piece.kind for piece in model.pieces[3:]}
    problem = None
    if not model.is_unigram:
        problem = "one that is not a unigram model"
    elif not model.usual_spaces:
        problem = "unusual handling of spaces"
    elif PieceKind.USER_DEFINED in kinds or PieceKind.UNUSED in kinds:
        problem = "user-defined or unused pieces"
    if problem:
        raise CheckpointError(
            f"export: expected a SentencePiece model with the release's settings, found {problem}",
            hint="transformers would split text differently; train one with kosmos tokenizer train",
        )


def _build(model: SentencePieceModel) -> Any:  # noqa: ANN401
    """A tokenizers.Tokenizer that splits text as SentencePiece does."""
    tokenizers = require("tokenizers", extra="huggingface")
    start = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces = [(piece.text, piece.score) for piece in model.pieces[3:]]
    vocab = [*start, *pieces, ("<mask>", 0.0)]
    built = tokenizers.Tokenizer(
        tokenizers.models.Unigram(vocab, unk_id=3, byte_fallback=model.byte_fallback)
    )
    if model.charsmap:
        built.normalizer = tokenizers.normalizers.Precompiled(model.charsmap)
    spaces = {"replacement": SPACE, "prepend_scheme": "always"}
    built.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.WhitespaceSplit(),
            tokenizers.pre_tokenizers.Metaspace(**spaces),
        ]
    )
    joined = tokenizers.decoders.Metaspace(**spaces)
    if model.byte_fallback:
        joined = tokenizers.decoders.Sequence([tokenizers.decoders.ByteFallback(), joined])
    built.decoder = joined
    built.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return built
