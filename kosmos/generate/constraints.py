"""Which tokens may not be chosen next, whatever the model thinks of them.

Forbidden tokens get log-probability minus infinity; the others keep theirs, so that what a reply
adds up to is still the model's own log-probability (Hugging Face and fairseq do the same).

Where several speak at once, the stronger wins::

    constraint, <pad>            always hold; if nothing is left the hypothesis dies, and a
                                 document whose hypotheses have all died is an error
    min_new_tokens               holds unless the reply may only end here
    no_repeat_ngram_size         holds unless it forbids all that the rest allows

Hugging Face lets a rule and a constraint together forbid everything, and then takes a token that
nobody allowed, or fails on NaN; everywhere else the results are the same.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kosmos.errors import ConfigError
from kosmos.generate.config import Decoding
from kosmos.text.streaming import StreamDecoder
from kosmos.text.vocabulary import Vocabulary


@runtime_checkable  # so that one is told from a list of them
class Constraint(Protocol):
    """What a reply may say, told token by token."""

    def allowed(
        self, prompt: Sequence[int], reply: Sequence[int], remaining: int
    ) -> Int64[np.ndarray, " ids"] | None:
        """Ids that may come next; ``</s>`` is among them where the reply may end.

        Depends on the arguments alone: beams ask about many replies in turn.

        Args:
            prompt: Token ids before the reply.
            reply: Token ids chosen so far; all of them were allowed.
            remaining: Tokens until the reply is cut off, the next one included; at least 1.

        Returns:
            The ids, each once, in any order, not to be changed by the caller; empty if no reply
            can go on from here. None allows every id.

        Raises:
            ConfigError: If what it promises cannot be kept in the remaining tokens.
        """
        ...


_MOST_FORESEEN = 4
"""Tokens read ahead for a row where there is a choice; a row more costs little up to some ten."""

ConstraintOption: TypeAlias = Constraint | Sequence[Constraint | None] | None
"""One for all documents of a call, or a list with one, or None, for each."""


class Place(NamedTuple):
    """Where a reply stands when its next token is to be chosen."""

    prompt: Sequence[int]
    """Token ids before the reply, image slots included as their ids stand."""
    reply: Sequence[int]
    """Token ids chosen so far."""
    remaining: int
    """Tokens until the reply is cut off, the next one included."""
    constraint: Constraint | None = None
    """What the reply may say; None for anything."""
    name: str = "document"
    """What to call the document in messages."""

    def nothing_left(self) -> ConfigError:
        """The error that no token may be chosen here."""
        return ConfigError(
            f"{self.name}: expected a token that is allowed after {len(self.reply)} tokens of the "
            f"reply, found none",
            hint="the constraint, or no_repeat_ngram_size without one, forbids every token",
        )


class Ahead(NamedTuple):
    """A token that a reply may go on with, and those behind it."""

    token_id: int
    behind: list["Ahead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """The rules of one call of generate, and when a row may stop."""

    vocab_size: int
    """Ids there are."""
    eos_id: int
    """Ends a reply."""
    banned_ids: tuple[int, ...]
    """Never chosen."""
    min_new_tokens: int
    """``eos_id`` is not chosen before this many tokens."""
    ngram_size: int
    """No n-gram twice; 0 for no rule."""
    free_first: bool
    """The release's rule: at the first token, no n-gram rule and no stopping."""

    @classmethod
    def of(cls, decoding: Decoding, vocabulary: Vocabulary) -> "Constraints":
        """The rules that an option set means for a vocabulary."""
        return cls(
            vocab_size=vocabulary.size,
            eos_id=vocabulary.eos_id,
            banned_ids=() if decoding.allow_pad else (vocabulary.pad_id,),
            min_new_tokens=decoding.min_new_tokens,
            ngram_size=decoding.no_repeat_ngram_size,
            free_first=decoding.first_token == "release",
        )

    def check(self, place: Place) -> None:
        """See whether a constraint allows anything, before a model is asked.

        Raises:
            ConfigError: If it does not, or cannot be kept; the message names the document.
        """
        allowed = self._allowed(place)
        if allowed is not None and _are_all_banned(self.banned_ids, allowed):
            raise place.nothing_left()

    def mask(
        self, log_probs: Float[Tensor, "rows vocab"], places: Sequence[Place]
    ) -> dict[int, ConfigError]:
        """Set what each row may not choose to minus infinity, in place.

        Args:
            log_probs: Of the next token of each row.
            places: Where each row stands.

        Returns:
            Rows that may choose nothing at all, each with why: nothing is left, or its constraint
            cannot be kept or allows an id that does not exist. The message names the document.
        """
        errors: dict[int, ConfigError] = {}
        kept: dict[int, _Kept] = {}
        for row, place in enumerate(places):
            try:
                allowed = self._allowed(place)
                # constraints give the same array again and again
                if allowed is not None and id(allowed) not in kept:
                    kept[id(allowed)] = _Kept(allowed, log_probs, place.name)
            except ConfigError as error:
                errors[row] = error
                log_probs[row] = float("-inf")
                continue
            banned = self._banned(place, allowed)
            if allowed is not None:
                kept[id(allowed)].apply(log_probs[row])
            if banned:
                log_probs[row, banned] = float("-inf")
            if _are_all_banned(banned, self.vocab_size if allowed is None else allowed):
                errors[row] = place.nothing_left()
        return errors

    def foreseen(self, place: Place) -> list[Ahead]:
        """What a reply may go on with where its constraint leaves few choices.

        It may be read together with the token before it: what a model thinks of these tokens is
        wanted soon, and which of them it prefers changes nothing about that. A chain without a
        choice is followed to its end, choices as long as all of them are few.

        Returns:
            The next tokens, each with those behind it; ``</s>`` and what follows it not counted.
        """
        found: list[Ahead] = []
        if place.constraint is None:
            return found
        waiting: deque[tuple[list[int], list[Ahead]]] = deque([(list(place.reply), found)])
        budget = _MOST_FORESEEN
        while waiting:
            reply, behind = waiting.popleft()
            remaining = place.remaining - (len(reply) - len(place.reply))
            if remaining < 2:
                continue  # the last token is looked up, never read
            try:
                allowed = self._allowed(place._replace(reply=reply, remaining=remaining))
            except ConfigError:
                continue  # to be told when the search comes there, if it does
            if allowed is None or len(allowed) > budget + len(self.banned_ids) + 1:
                continue
            outside = (*self.banned_ids, self.eos_id)
            left = [int(token_id) for token_id in allowed if token_id not in outside]
            is_forced = len(left) == 1 and len(allowed) == 1
            if not is_forced and len(left) > budget:
                continue
            if not all(0 <= token_id < self.vocab_size for token_id in left):
                continue  # as above
            budget -= 0 if is_forced else len(left)
            for token_id in left:
                behind.append(Ahead(token_id, []))
                waiting.append(([*reply, token_id], behind[-1].behind))
        return found

    def stops(self, token_id: int, num_new: int) -> bool:
        """Whether a token ends the reply of which it is the ``num_new``-th."""
        return token_id == self.eos_id and not (self.free_first and num_new == 1)

    def _allowed(self, place: Place) -> Int64[np.ndarray, " ids"] | None:
        """What the constraint of a row allows."""
        if place.constraint is None:
            return None
        reply = place.reply
        if self.free_first and reply and reply[0] == self.eos_id:
            # it did not end the reply and says nothing
            reply = reply[1:]
        try:
            return place.constraint.allowed(place.prompt, reply, place.remaining)
        except ConfigError as error:
            raise ConfigError(f"{place.name}: {error.message}", hint=error.hint) from error

    def _banned(self, place: Place, allowed: Int64[np.ndarray, " ids"] | None) -> list[int]:
        """What the rules forbid to a row; with a constraint no more than leaves it something."""
        banned = list(self.banned_ids)
        if len(place.reply) < self.min_new_tokens:
            stronger = [*banned, self.eos_id]
            if allowed is None or not _are_all_banned(stronger, allowed):
                banned = stronger
        if self.ngram_size and not (self.free_first and not place.reply):
            stronger = banned + repeating_ids([*place.prompt, *place.reply], self.ngram_size)
            if allowed is None or not _are_all_banned(stronger, allowed):
                banned = stronger
        return banned


def per_document(constraint: ConstraintOption, num_docs: int) -> list[Constraint | None]:
    """The constraint of each document of a call.

    Raises:
        ConfigError: If there is a list of them of another length.
    """
    if constraint is None or isinstance(constraint, Constraint):
        return [constraint] * num_docs
    if len(constraint) != num_docs:
        raise ConfigError(
            f"constraint: expected one for all documents or one for each of {num_docs}, "
            f"found {len(constraint)}"
        )
    return list(constraint)


def _are_all_banned(banned: Sequence[int], ids: Int64[np.ndarray, " ids"] | int) -> bool:
    """Whether nothing is left of some ids, or of that many from 0 on."""
    if isinstance(ids, int):
        return len(banned) >= ids and len(set(banned)) == ids
    return len(ids) <= len(banned) and set(banned).issuperset(ids.tolist())


class _Kept:
    """Makes rows of log-probabilities minus infinity everywhere but at some ids."""

    def __init__(self, ids: Int64[np.ndarray, " ids"], log_probs: Tensor, name: str) -> None:
        vocab = log_probs.shape[1]
        if len(ids) and not 0 <= ids.min() <= ids.max() < vocab:
            raise ConfigError(
                f"{name}: expected the constraint to allow ids from 0 to {vocab - 1}, "
                f"found {ids.min()} to {ids.max()}",
                hint="it may be made for another tokenizer",
            )
        self._ids = ids  # or another array might get its id()
        self._is_most = 2 * len(ids) > vocab
        if self._is_most:
            # the words of a grammar: the others are quicker to write
            is_refused = np.ones(vocab, dtype=np.bool_)
            is_refused[ids] = False
            ids = np.flatnonzero(is_refused)
        self._index = torch.tensor(ids, device=log_probs.device)

    def apply(self, row: Float[Tensor, " vocab"]) -> None:
        """Do it to one row, in place."""
        if self._is_most:
            row.index_fill_(0, self._index, float("-inf"))
            return
        values = row.index_select(0, self._index)
        row.fill_(float("-inf"))
        row.index_copy_(0, self._index, values)


def repeating_ids(history: Sequence[int], size: int) -> list[int]:
    """Ids that would complete an n-gram which the history already contains.

    ``repeating_ids([5, 6, 7, 5, 6], 3)`` is ``[7]``.

    Args:
        history: Token ids so far.
        size: Tokens of an n-gram.
    """
    tokens = list(history)
    begun = size - 1
    if len(tokens) < size:
        return []
    if not begun:
        return sorted(set(tokens))
    last, end = tokens[-begun:], len(tokens) - begun
    found: set[int] = set()
    place = -1
    for _ in range(tokens[:end].count(last[0])):
        place = tokens.index(last[0], place + 1)
        if tokens[place : place + begun] == last:
            found.add(tokens[place + begun])
    return sorted(found)


class StopStrings:
    """Watches the text of one reply for strings that end it; ids come by :meth:`after`.

    Args:
        strings: What to watch for; matched against the text with its markup.
        stream: Turns ids into text as they come.
    """

    def __init__(self, strings: Sequence[str], stream: StreamDecoder) -> None:
        self.is_complete = False
        """Whether the last id completed one of the strings."""
        self._strings = strings
        self._stream = stream
        self._text = ""

    def after(self, token_id: int) -> "StopStrings":
        """The watch of the reply with one more id; this one stays as it is, as beams need."""
        stream = self._stream.fork()
        later = StopStrings(self._strings, stream)
        text = self._text + stream.push(token_id)
        later.is_complete = any(string in text for string in self._strings)
        longest = max(map(len, self._strings))
        later._text = text[max(len(text) - longest + 1, 0) :]  # what a string may still begin in
        return later
