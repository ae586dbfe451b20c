"""Tokenizer files of transformers <-> the SentencePiece model that ours is.

- :func:`write_tokenizer`: ``tokenizer.json`` and ``tokenizer_config.json``
- :func:`read_tokenizer`: the pieces in a ``tokenizer.json``; transformers 5 saves nothing else

What Hugging Face's Kosmos-2 uses is an XLM-RoBERTa tokenizer over the same pieces (ids shifted by
one), to which its processor adds the tags and the location tokens in the release's order.
"""

import base64
import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

from kosmos.errors import CheckpointError, DataError
from kosmos.files import Json, read_json, write_json
from kosmos.runtime import require
from kosmos.text.sentencepiece_model import (
    Piece,
    PieceKind,
    SentencePieceModel,
    read_sentencepiece,
    write_sentencepiece,
)
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import Vocabulary

SPACE = "▁"
_FIRST = ("<s>", "<pad>", "</s>", "<unk>")
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


def read_tokenizer(file: Path) -> Tokenizer:
    """The words of a ``tokenizer.json``, without a grid; the same texts give the same ids.

    Args:
        file: Of a Kosmos-2 that transformers saved, or of any XLM-RoBERTa tokenizer.

    Raises:
        CheckpointError: If it splits text in a way that SentencePiece does not.
    """
    try:
        fields: Any = read_json(file)
        core, charsmap, found = fields["model"], b"", None
        names = [name for name, _ in core["vocab"]]
        if core["type"] != "Unigram" or core["unk_id"] != _FIRST.index("<unk>"):
            found = f"a {core['type']} model"
        elif (*names[:4], *names[-1:]) != (*_FIRST, "<mask>"):
            found = f"{names[:4]} first and {names[-1:]} last"
        elif not _splits_at_spaces(_steps(fields["pre_tokenizer"], "pretokenizers")):
            found = f"another pre_tokenizer, {fields['pre_tokenizer']}"
        for step in _steps(fields["normalizer"], "normalizers"):
            if step["type"] == "Precompiled":
                charsmap = base64.b64decode(step["precompiled_charsmap"])
            elif step["type"] != "Strip" and step.get("pattern") != {"Regex": " {2,}"}:
                found = found or f"a normalizer with {step}"  # runs of spaces are one in any case
        has_bytes = bool(core.get("byte_fallback"))
        pieces = [
            Piece("<unk>", 0.0, PieceKind.UNKNOWN),
            Piece("<s>", 0.0, PieceKind.CONTROL),
            Piece("</s>", 0.0, PieceKind.CONTROL),
            *(Piece(text, score, _kind(text, has_bytes)) for text, score in core["vocab"][4:-1]),
        ]
        model = write_sentencepiece(
            SentencePieceModel(
                pieces=tuple(pieces),
                is_unigram=True,
                byte_fallback=has_bytes,
                charsmap=charsmap,
                usual_spaces=True,
            )
        )
    except (AttributeError, DataError, LookupError, TypeError, ValueError, struct.error) as error:
        raise CheckpointError(f"{file}: expected a tokenizer of transformers: {error!r}") from error
    if found:
        raise CheckpointError(
            f"{file}: expected an XLM-RoBERTa tokenizer, as Kosmos-2 has, found {found}",
            hint="copy sentencepiece.bpe.model from where the model was made, or pass tokenizer=",
        )
    return Tokenizer(model, num_cells=0, where=str(file))


def check_added_tokens(file: Path, vocabulary: Vocabulary) -> None:
    """Fail if tokens that a ``tokenizer.json`` adds are others than those of a vocabulary.

    Raises:
        CheckpointError: Naming the first that is another.
    """
    fields: Any = read_json(file)
    for token in fields.get("added_tokens") or []:
        ours = vocabulary.control_token(token["id"])
        if token["content"] != ours:
            raise CheckpointError(
                f"{file}: added_tokens: expected {ours!r} as token {token['id']}, "
                f"found {token['content']!r}",
                hint="ids would mean other words; tokens that were added later are not supported",
            )


def _steps(step: Any, name: str) -> list[Any]:  # noqa: ANN401
    """The steps of a sequence; one step is a sequence of one, and null of none."""
    if step is None:
        return []
    return list(step[name]) if step["type"] == "Sequence" else [step]


def _splits_at_spaces(steps: list[Any]) -> bool:
    """Whether text is split at spaces alone, and begins with one."""
    if [step["type"] for step in steps] not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
        return False
    last = steps[-1]
    begins = last.get("prepend_scheme", "always" if last.get("add_prefix_space", True) else "never")
    return bool(last["replacement"] == SPACE and begins == "always" and last.get("split", True))


def _kind(text: str, has_bytes: bool) -> PieceKind:
    is_byte = has_bytes and re.fullmatch("<0x[0-9A-F]{2}>", text)
    return PieceKind.BYTE if is_byte else PieceKind.NORMAL


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
    start = [(token, 0.0) for token in _FIRST]
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
