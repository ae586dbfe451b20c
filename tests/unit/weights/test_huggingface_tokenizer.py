"""SentencePiece models that transformers would read differently are refused."""

import io

import pytest
import sentencepiece

from kosmos.errors import CheckpointError
from kosmos.text.tokenizer import Tokenizer
from kosmos.weights.huggingface_tokenizer import write_tokenizer


def trained(**settings) -> Tokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red dog sees the cat", "the cat likes a ball"] * 5),
        model_writer=model,
        vocab_size=19,
        minloglevel=3,
        **settings,
    )
    return Tokenizer.from_bytes(model.getvalue(), num_cells=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "bpe"}, "not a unigram model"),
        ({"add_dummy_prefix": False}, "unusual handling of spaces"),
        ({"split_by_whitespace": False}, "unusual handling of spaces"),
        ({"user_defined_symbols": ["!"]}, "user-defined or unused pieces"),
    ],
)
def test_other_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(CheckpointError, match=message):
        write_tokenizer(tmp_path, trained(**settings))
    assert list(tmp_path.iterdir()) == []
