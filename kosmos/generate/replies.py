"""Documents to replies: what is read together, searched together, and fails alone.

- :func:`answers`: replies to any number of documents, as they finish
- :func:`pieces`: one reply while it grows
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kosmos import runtime
from kosmos.document.encode import Encoded
from kosmos.document.types import Document
from kosmos.errors import ConfigError, DataError, MarkupError
from kosmos.generate.config import Decoding
from kosmos.generate.constraints import Constraint, Constraints, Place, StopStrings
from kosmos.generate.grounding import make_reply
from kosmos.generate.reading import ONE_ROW, SEVERAL_ROWS, Reader
from kosmos.generate.reply import Failure, Piece, Reply
from kosmos.generate.request import prompt_name
from kosmos.generate.rollout import Rollout
from kosmos.generate.schedule import batches, shared_groups
from kosmos.generate.search import Draft, Start, choose_replies, grow_replies, rank_beams
from kosmos.generate.streaming import ReplyStream
from kosmos.generate.tree import Prompt

_BAD_DOCUMENT = (DataError, MarkupError)
"""What can be wrong with a document, and not with the model or the options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A document ready to be read."""

    row: Encoded
    name: str
    key: str
    """What its random numbers depend on beside the seed and its tokens."""
    limit: int
    """Most tokens of a reply."""
    bound: Constraint | None


def answers(
    reader: Reader,
    docs: Sequence[Document],
    decoding: Decoding,
    bounds: Sequence[Constraint | None],
    *,
    batch_size: int,
    num_replies: int = 1,
) -> Iterator[tuple[int, list[Reply] | Failure]]:
    """Reply to documents.

    Args:
        reader: Reads them.
        docs: Prompts.
        decoding: How tokens are chosen.
        bounds: What the reply to each may say.
        batch_size: Most documents read at once.
        num_replies: How many replies to each.

    Yields:
        The index of a document with its replies, best first, or with why it has none; each index
        once, in any order.

    Raises:
        ConfigError: If a constraint and the other options leave nothing to say.
        CheckpointError: If the model's logits are not finite.
    """
    asked: dict[int, _Asked] = {}
    for index, (doc, bound) in enumerate(zip(docs, bounds, strict=True)):
        name = prompt_name(doc, index if len(docs) > 1 else None)
        # the encoder's messages say the id
        named = doc if doc.id or len(docs) == 1 else replace(doc, id=str(index))
        try:
            asked[index] = _ask(reader, named, decoding, bound, name=name, key=doc.id)
        except _BAD_DOCUMENT as error:
            yield index, Failure(name=name, error=error)
    places = list(asked)
    rows = [asked[index].row for index in places]
    groups = shared_groups(rows, most=batch_size)
    for batch in batches(groups, [len(row) for row in rows], most=batch_size):
        members = [[places[place] for place in group] for group in batch]
        num_rows = sum(map(len, members)) * max(decoding.num_beams, num_replies)
        steps = max(asked[index].limit for group in members for index in group)
        # what several rows read is worth packing for at any likely length; of one it shows after
        reader.expect(SEVERAL_ROWS * (2 + (steps if num_rows > 1 else 0)))
        prompts: dict[int, Prompt] = {}
        for index, found in _prompts(reader, asked, [i for group in members for i in group]):
            if isinstance(found, Failure):
                yield index, found
            else:
                prompts[index] = found
        readable = [[index for index in group if index in prompts] for group in members]
        readable = [group for group in readable if group]
        if not readable:
            continue
        drafts = _search(
            reader,
            [[(asked[index], prompts[index]) for index in group] for group in readable],
            decoding,
            num_replies=num_replies,
        )
        if num_rows == 1:
            reader.expect(ONE_ROW * len(drafts[0][0].token_ids))
        for index, own in zip((i for group in readable for i in group), drafts, strict=True):
            yield index, [_reply(reader, draft, asked[index].row, decoding) for draft in own]


def pieces(
    reader: Reader, doc: Document, decoding: Decoding, bound: Constraint | None
) -> Iterator[Piece]:
    """Reply to one document, told while it grows.

    Args:
        reader: Reads it.
        doc: The prompt.
        decoding: How tokens are chosen; without beams.
        bound: What the reply may say.
    """
    asked = _ask(reader, doc, decoding, bound, name=prompt_name(doc, None), key=doc.id)
    reader.expect(2 * SEVERAL_ROWS)
    (soft,) = reader.image_cache.take([asked.row.images], names=[asked.name])
    prompt = Prompt(encoded=asked.row, soft_tokens=soft, name=asked.name)
    rollout, starts = _begin(reader, [[(asked, prompt)]], decoding, num_replies=1)
    unfolding = ReplyStream(
        lambda draft: _reply(reader, draft, asked.row, decoding),
        reader.tokenizer.stream(),
        decoding.stop,
    )
    rules = Constraints.of(decoding, reader.tokenizer.vocabulary)
    for (draft,) in grow_replies(rollout, starts, decoding, rules):
        piece = unfolding.grow(draft)
        if piece.text or piece.grounded:
            yield piece
    reader.expect(ONE_ROW * len(draft.token_ids))
    yield unfolding.finish(draft)


def _ask(
    reader: Reader,
    doc: Document,
    decoding: Decoding,
    bound: Constraint | None,
    *,
    name: str,
    key: str,
) -> _Asked:
    row = reader.encode(doc)
    room = reader.room(len(row), name, most=decoding.max_total_tokens)
    limit = min(decoding.max_new_tokens, room)
    rules = Constraints.of(decoding, reader.tokenizer.vocabulary)
    try:
        rules.check(Place(row.token_ids.tolist(), [], limit, bound, name))
    except ConfigError as error:
        if limit == decoding.max_new_tokens:
            raise
        # the context, and so the document, leaves too little room for what must be said
        raise DataError(error.message, hint=error.hint) from error
    return _Asked(row=row, name=name, key=key, limit=limit, bound=bound)


def _prompts(
    reader: Reader, asked: Mapping[int, _Asked], members: Sequence[int]
) -> Iterator[tuple[int, Prompt | Failure]]:
    """Documents of a batch with their pictures, or why these cannot be read."""
    images = reader.image_cache.batch()
    readable = []
    for index in members:
        try:
            images.add(asked[index].row.images, name=asked[index].name)
            readable.append(index)
        except _BAD_DOCUMENT as error:
            yield index, Failure(name=asked[index].name, error=error)
    for index, soft in zip(readable, images.encode(), strict=True):
        row, name = asked[index].row, asked[index].name
        yield index, Prompt(encoded=row, soft_tokens=soft, name=name)


def _search(
    reader: Reader,
    groups: Sequence[Sequence[tuple[_Asked, Prompt]]],
    decoding: Decoding,
    *,
    num_replies: int,
) -> list[list[Draft]]:
    """For each prompt its replies, best first."""
    rules = Constraints.of(decoding, reader.tokenizer.vocabulary)
    rollout, starts = _begin(reader, groups, decoding, num_replies=num_replies)
    if decoding.num_beams > 1:
        return [best[:num_replies] for best in rank_beams(rollout, starts, decoding, rules)]
    drafts = choose_replies(rollout, starts, decoding, rules)
    return [
        sorted(drafts[first : first + num_replies], key=lambda draft: -draft.logprob)
        for first in range(0, len(drafts), num_replies)
    ]


def _begin(
    reader: Reader,
    groups: Sequence[Sequence[tuple[_Asked, Prompt]]],
    decoding: Decoding,
    *,
    num_replies: int,
) -> tuple[Rollout, list[Start]]:
    """Read prompts; with the starts of their replies, those of each side by side."""
    members = [member for group in groups for member in group]
    use_beams = decoding.num_beams > 1
    rollout = Rollout(
        reader.model,
        [[prompt for _, prompt in group] for group in groups],
        room=max(asked.limit for asked, _ in members) - 1,
        fan=max(decoding.num_beams, num_replies),
        score_prompts=use_beams and decoding.score_prompt,
        fixed=reader.fixed,
    )
    starts = []
    for (asked, prompt), log_prob in zip(members, rollout.prompt_log_probs, strict=True):
        ids = prompt.token_ids
        starts += [
            Start(
                prompt=ids,
                limit=asked.limit,
                # of the document, whatever its company; the first reply draws as an only one does
                rng=runtime.generator(decoding.seed, "sample", number, asked.key, *ids),
                stop=StopStrings(decoding.endings, reader.tokenizer.stream())
                if decoding.endings
                else None,
                prompt_log_prob=log_prob,
                constraint=asked.bound,
                name=asked.name,
            )
            for number in range(1 if use_beams else num_replies)
        ]
    return rollout, starts


def _reply(reader: Reader, draft: Draft, prompt: Encoded, decoding: Decoding) -> Reply:
    return make_reply(
        draft,
        prompt,
        tokenizer=reader.tokenizer,
        transform=reader.transform,
        stop=decoding.stop,
        stop_after=decoding.stop_after,
    )
