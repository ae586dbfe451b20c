"""Answers from a list: a constraint under which a reply is one of given strings and nothing else.

The answers are kept as a trie over token ids, so that a step costs a look-up for each token of
the reply, however many answers there are. With ``dog``, ``dog house`` and ``cat``::

    cat      then </s>
    dog      then </s>, or
      house  then </s>

An answer that begins another one is told from it by ``</s>``, which every reply ends with.

Source: KOSMOS-1 (arXiv:2302.14045) Table 10: ImageNet with the answer constrained to 1,000 names.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from kosmos.document.encode import encode
from kosmos.document.layout import INFERENCE, Layout
from kosmos.document.types import Document, Text
from kosmos.errors import ConfigError, DataError
from kosmos.generate.reply import Reply
from kosmos.image.config import ImageConfig
from kosmos.text.tokenizer import Tokenizer

_NONE: Int64[np.ndarray, " ids"] = np.empty(0, dtype=np.int64)


class Choices:
    """A constraint to a list of answers, and which of them a reply is.

    ``generator.generate(doc, constraint=Choices(generator.tokenizer, ["a dog", "a cat"]))``

    Args:
        tokenizer: That of the model.
        strings: The answers, at least one; they may carry markup. Each is tokenized by itself, as
            every part of a document is, so ``"Yes"`` and ``" Yes"`` are the same answer.
        layout: How the model's documents are laid out; matters for answers with markup only.

    Raises:
        ConfigError: If there is no answer, one has no words, or two have the same tokens.
    """

    def __init__(
        self, tokenizer: Tokenizer, strings: Sequence[str], *, layout: Layout = INFERENCE
    ) -> None:
        if isinstance(strings, str):
            raise ConfigError(f"choices: expected a list of strings, found the string {strings!r}")
        self.strings = tuple(strings)
        """The answers in the order given."""
        if not self.strings:
            raise ConfigError("choices: expected at least one answer, found none")
        self._eos_id = tokenizer.vocabulary.eos_id
        # node 0 is the empty reply; a node is the ids that lead to others, and the answer it is
        self._children: list[dict[int, int]] = [{}]
        self._answer: list[int | None] = [None]
        self._longest = 0
        silent = {self._eos_id, tokenizer.vocabulary.pad_id}
        for index, string in enumerate(self.strings):
            ids = _tokens(string, tokenizer, layout)
            if not ids or silent.intersection(ids):
                found = "</s> or <pad> in it" if ids else "no words"
                raise ConfigError(f"choice {index}: expected words, found {found}: {string!r}")
            node = self._insert(ids)
            other = self._answer[node]
            if other is not None:
                raise ConfigError(
                    f"choice {index}: expected an answer of its own, found {string!r}, which has "
                    f"the tokens of choice {other}, {self.strings[other]!r}",
                    hint="leave one of them out",
                )
            self._answer[node] = index
            self._longest = max(self._longest, len(ids))
        self._next = [
            np.array(sorted([*ways, self._eos_id] if answer is not None else ways), dtype=np.int64)
            for ways, answer in zip(self._children, self._answer, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.strings)

    def allowed(
        self, prompt: Sequence[int], reply: Sequence[int], remaining: int
    ) -> Int64[np.ndarray, " ids"]:
        """As :class:`~kosmos.generate.constraints.Constraint` says.

        Raises:
            ConfigError: If the longest answer and ``</s>`` are longer than a reply may be: it
                could not be chosen, though a shorter one could.
        """
        del prompt
        if not reply and remaining <= self._longest:
            raise ConfigError(
                f"choices: expected room for the longest answer, {self._longest} tokens and </s>, "
                f"found {remaining} tokens",
                hint="raise max_new_tokens, or shorten the prompt or the answer",
            )
        node = self._find(reply)
        return _NONE if node is None else self._next[node]

    def index(self, reply: Reply) -> int:
        """Which answer a reply is, as an index into ``strings``.

        Raises:
            DataError: If it is none of them, and so was generated without this constraint.
        """
        ids = list(reply.token_ids)
        node = self._find(ids[:-1] if ids[-1:] == [self._eos_id] else ids)
        answer = None if node is None else self._answer[node]
        if answer is None:
            raise DataError(
                f"reply: expected one of {len(self)} choices, found {reply.markup!r}",
                hint="generate it with these choices as its constraint",
            )
        return answer

    def _insert(self, token_ids: Sequence[int]) -> int:
        """The node that ids lead to, made where there is none."""
        node = 0
        for token_id in token_ids:
            node = self._children[node].setdefault(token_id, len(self._children))
            if node == len(self._children):
                self._children.append({})
                self._answer.append(None)
        return node

    def _find(self, token_ids: Sequence[int]) -> int | None:
        """The node that ids lead to, if there is one."""
        node = 0
        for token_id in token_ids:
            following = self._children[node].get(token_id)
            if following is None:
                return None
            node = following
        return node


def _tokens(string: str, tokenizer: Tokenizer, layout: Layout) -> list[int]:
    """Ids of a string as a part of a document behind whatever stands before it."""
    if not string.strip():
        return []
    answer = Document([Text(string)])
    row = encode(answer, tokenizer, layout=layout, image=ImageConfig(), complete=False)
    return [int(token_id) for token_id in row.token_ids[1:]]
