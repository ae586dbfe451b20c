"""Requests to replies: what is read together, searched together, and fails alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import torch

from kosmos import runtime
from kosmos.errors import ConfigError, DataError
from kosmos.generate.config import Decoding
from kosmos.generate.constraints import Constraints, Place, StopStrings
from kosmos.generate.grounding import make_reply
from kosmos.generate.reading import ONE_ROW, SEVERAL_ROWS, Reader
from kosmos.generate.reply import Failure, Piece, Reply
from kosmos.generate.request import BAD_REQUEST, Generate, Named
from kosmos.generate.rollout import Rollout
from kosmos.generate.schedule import read_together
from kosmos.generate.search import Draft, Start, choose_replies, grow_replies, rank_beams
from kosmos.generate.streaming import ReplyStream
from kosmos.generate.tree import Prompt


@torch.inference_mode()
def replies(
    reader: Reader, asked: Sequence[Named[Generate]], *, batch_size: int
) -> Iterator[tuple[str, list[Reply] | Failure]]:
    """Reply to requests.

    Args:
        reader: Reads them.
        asked: At least one; all with the same decoding and number of replies.
        batch_size: Most prompts read at once.

    Yields:
        The id of a request with its replies, best first, or with why it has none; each once, in
        any order.

    Raises:
        CheckpointError: If the model's logits are not finite.
    """
    decoding, num_replies = asked[0].request.decoding, asked[0].request.num_replies
    named = {one.id: one for one in asked}
    prompts: dict[str, Prompt] = {}
    for one in asked:
        try:
            prompts[one.id] = _prompt(reader, one)
        except BAD_REQUEST as error:
            yield one.failure(error)
    for batch in read_together(prompts, most=batch_size):
        members = [prompt for group in batch for prompt in group.values()]
        num_rows = len(members) * max(decoding.num_beams, num_replies)
        steps = max(_limit(reader, prompt, decoding) for prompt in members)
        # what several rows read is worth packing for at any likely length; of one it shows after
        reader.expect(SEVERAL_ROWS * (2 + (steps if num_rows > 1 else 0)))
        groups, failed = reader.show(batch)
        yield from failed.items()
        if not groups:
            continue
        keys = [key for group in groups for key in group]
        try:
            drafts = _search(reader, groups, named)
        except ConfigError as error:
            # the search has no more of a prompt than its place, so all share what is wrong
            yield from (named[key].failure(error) for key in keys)
            continue
        if num_rows == 1:
            reader.expect(ONE_ROW * len(drafts[0][0].token_ids))
        for key, own in zip(keys, drafts, strict=True):
            errors = [draft.error for draft in own if draft.error is not None]
            if errors:
                yield named[key].failure(errors[0])
            else:
                yield key, [_reply(reader, draft, prompts[key], decoding) for draft in own]


@torch.inference_mode()
def pieces(reader: Reader, asked: Named[Generate]) -> Iterator[Piece]:
    """Reply to one request, told while it grows.

    Args:
        reader: Reads it.
        asked: Without beams.
    """
    decoding, prompt = asked.request.decoding, _prompt(reader, asked)
    reader.expect(2 * SEVERAL_ROWS)
    groups, failed = reader.show([{asked.id: prompt}])
    for failure in failed.values():
        raise failure.error
    rollout, starts = _begin(reader, groups, {asked.id: asked})
    stream = ReplyStream(
        lambda draft: _reply(reader, draft, prompt, decoding),
        reader.tokenizer.stream(),
        decoding.stop,
    )
    rules = Constraints.of(decoding, reader.tokenizer.vocabulary)
    with closing(rollout):  # also when nobody asks for the rest
        for (draft,) in grow_replies(rollout, starts, decoding, rules):
            if draft.error is not None:
                raise draft.error
            piece = stream.grow(draft)
            if piece.text or piece.grounded:
                yield piece
    reader.expect(ONE_ROW * len(draft.token_ids))
    yield stream.finish(draft)


def _prompt(reader: Reader, asked: Named[Generate]) -> Prompt:
    """A request as tokens, its pictures still to be read.

    Raises:
        ConfigError: If a constraint and the other options leave nothing to say.
        DataError: If the context leaves no room for a reply, or too little for what must be said.
        MarkupError: If its markup names a cell that there is not.
    """
    decoding = asked.request.decoding
    prompt = Prompt(encoded=reader.encode(asked.doc), name=asked.name)
    limit = _limit(reader, prompt, decoding)
    rules = Constraints.of(decoding, reader.tokenizer.vocabulary)
    try:
        rules.check(Place(prompt.token_ids, [], limit, asked.request.constraint, asked.name))
    except ConfigError as error:
        if limit == decoding.max_new_tokens:
            raise
        # the context, and so the document, leaves too little room for what must be said
        raise DataError(error.message, hint=error.hint) from error
    return prompt


def _limit(reader: Reader, prompt: Prompt, decoding: Decoding) -> int:
    """Most tokens of a reply."""
    room = reader.room(len(prompt.encoded), prompt.name, most=decoding.max_total_tokens)
    return min(decoding.max_new_tokens, room)


def _search(
    reader: Reader, groups: Sequence[Mapping[str, Prompt]], named: Mapping[str, Named[Generate]]
) -> list[list[Draft]]:
    """For each prompt its replies, best first."""
    request = next(iter(named.values())).request
    decoding, num_replies = request.decoding, request.num_replies
    rules = Constraints.of(decoding, reader.tokenizer.vocabulary)
    rollout, starts = _begin(reader, groups, named)
    with closing(rollout):
        if decoding.num_beams > 1:
            return [best[:num_replies] for best in rank_beams(rollout, starts, decoding, rules)]
        drafts = choose_replies(rollout, starts, decoding, rules)
    return [
        sorted(drafts[first : first + num_replies], key=lambda draft: -draft.logprob)
        for first in range(0, len(drafts), num_replies)
    ]


def _begin(
    reader: Reader, groups: Sequence[Mapping[str, Prompt]], named: Mapping[str, Named[Generate]]
) -> tuple[Rollout, list[Start]]:
    """Read prompts; with the starts of their replies, those of each side by side."""
    members = [(named[key], prompt) for group in groups for key, prompt in group.items()]
    request = members[0][0].request
    decoding, num_replies = request.decoding, request.num_replies
    limits = [_limit(reader, prompt, decoding) for _, prompt in members]
    use_beams = decoding.num_beams > 1
    rollout = Rollout(
        reader.model,
        [list(group.values()) for group in groups],
        room=max(limits) - 1,
        fan=max(decoding.num_beams, num_replies),
        score_prompts=use_beams and decoding.score_prompt,
        graphed=reader.graphed,
    )
    starts = []
    for (asked, prompt), limit, log_prob in zip(
        members, limits, rollout.prompt_log_probs, strict=True
    ):
        ids = prompt.token_ids
        starts += [
            Start(
                prompt=ids,
                limit=limit,
                # of the document, whatever its company; the first reply draws as an only one does
                rng=runtime.generator(decoding.seed, "sample", number, asked.request.doc.id, *ids),
                stop=StopStrings(decoding.endings, reader.tokenizer.stream())
                if decoding.endings
                else None,
                prompt_log_prob=log_prob,
                constraint=asked.request.constraint,
                name=asked.name,
            )
            for number in range(1 if use_beams else num_replies)
        ]
    return rollout, starts


def _reply(reader: Reader, draft: Draft, prompt: Prompt, decoding: Decoding) -> Reply:
    return make_reply(
        draft,
        prompt.encoded,
        tokenizer=reader.tokenizer,
        transform=reader.transform,
        stop=decoding.stop,
        stop_after=decoding.stop_after,
    )
