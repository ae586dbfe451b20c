"""Generated ids to a Reply: clean words, phrases, and boxes in the picture they speak of.

A prompt may end in the middle of an entity, and the reply then completes it::

    prompt  <grounding><phrase> a red circle</phrase>
    reply   <object><patch_index_0044><patch_index_0863></object> in the corner.

So the reply is parsed together with the prompt from its last ``<phrase>`` or ``<object>`` on, and
what the prompt said is cut off again. Offsets count in the words of the reply alone: a phrase
that stands in the prompt keeps its words in ``span.text`` and has ``start == end == 0``; one that
begins in the prompt covers its part in the reply. Everywhere else
``reply.text[span.start:span.end] == span.text``.

What is a token is told by its id, and every box knows the ids it was read from. Its confidence is
the geometric mean of the probabilities that the model gave these two, as it read them (temperature
1, among all tokens, whatever a constraint allowed). A location token of the prompt was given, not
chosen, and does not count.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from kosmos.boxes import Box
from kosmos.document.encode import Encoded
from kosmos.generate.reply import GroundedSpan, Reply
from kosmos.generate.search import Draft
from kosmos.image.transform import ImageTransform
from kosmos.text.locations import guaranteed_iou
from kosmos.text.markup import Markup, Span, parse_lexemes
from kosmos.text.spans import parse_ids
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import Vocabulary


def make_reply(
    draft: Draft,
    prompt: Encoded,
    *,
    tokenizer: Tokenizer,
    transform: ImageTransform,
    stop: Sequence[str] = (),
    stop_after: Sequence[str] = (),
) -> Reply:
    """Read what was generated behind a prompt.

    Args:
        draft: The generated ids.
        prompt: What they follow; boxes lie in its last image.
        tokenizer: Ids to words.
        transform: The preprocessing of the image, which boxes are moved back through.
        stop: Strings before the first of which the reply is cut.
        stop_after: Strings behind the first of which it is cut.
    """
    vocabulary = tokenizer.vocabulary
    tail = open_tail(prompt.token_ids.tolist(), vocabulary)
    # read together, so that a word begun in the prompt stays one word
    whole = [*tail, *draft.token_ids]
    markup = tokenizer.decode(draft.token_ids)
    num_cut = _num_behind(markup, stop, stop_after)
    markup = markup[: len(markup) - num_cut].rstrip()
    both = _parse_cut(whole, num_cut, tokenizer) if num_cut else parse_ids(whole, tokenizer)
    text, spans, dropped = _behind(parse_ids(tail, tokenizer), both)
    logprobs = [*([None] * len(tail)), *draft.token_logprobs]
    grounded = []
    for span in spans:
        found, problems = _boxes(span, prompt, transform, vocabulary.num_cells, logprobs)
        dropped += problems
        if found:
            width, height = prompt.image_sizes[-1]
            grounded.append(
                GroundedSpan(
                    text=span.text,
                    boxes=tuple(item.box for item in found),
                    start=span.start,
                    end=span.end,
                    image_index=len(prompt.images) - 1,
                    boxes_px=tuple(
                        item.box.to_pixels(width=width, height=height) for item in found
                    ),
                    locations=tuple(item.locations for item in found),
                    logprobs=tuple(item.logprob for item in found),
                    confidence=tuple(item.confidence for item in found),
                    guaranteed_ious=tuple(
                        guaranteed_iou(*item.locations, vocabulary.num_cells) for item in found
                    ),
                )
            )
    return Reply(
        text=text,
        grounded=tuple(grounded),
        token_ids=tuple(draft.token_ids),
        logprob=draft.logprob,
        token_logprobs=tuple(draft.token_logprobs),
        markup=markup,
        dropped=tuple(dropped),
        finish=draft.finish,
    )


def open_tail(token_ids: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """The end of a prompt that a reply may complete.

    From the last ``<phrase>`` behind the last image on, or from the last ``<object>`` where there
    is no phrase; empty where there is neither.
    """
    if vocabulary.num_cells == 0:
        return []
    ids = list(token_ids)
    if vocabulary.image_end_id in ids:
        ids = ids[len(ids) - ids[::-1].index(vocabulary.image_end_id) :]
    for token_id in (vocabulary.phrase_id, vocabulary.object_id):
        if token_id in ids:
            return ids[len(ids) - 1 - ids[::-1].index(token_id) :]
    return []


def _num_behind(markup: str, stop: Sequence[str], stop_after: Sequence[str]) -> int:
    """Characters from the first stop string on, or behind one that is kept."""
    found = [(markup.find(string), 0) for string in stop]
    found += [(markup.find(string), len(string)) for string in stop_after]
    ends = [place + kept for place, kept in found if place >= 0]
    return len(markup) - min(ends, default=len(markup))


def _parse_cut(token_ids: Sequence[int], num_chars: int, tokenizer: Tokenizer) -> Markup:
    """Markup of ids less some characters at their end; a token that is cut into is words."""
    kept = tokenizer.lex(token_ids)
    while num_chars > 0:
        last = kept.pop()
        if len(last.text) > num_chars:
            kept.append(last._replace(kind="words", text=last.text[: len(last.text) - num_chars]))
        num_chars -= len(last.text)
    num_cells = tokenizer.vocabulary.num_cells
    return parse_lexemes(kept, end=len(token_ids), num_cells=num_cells, lenient=True)


def _behind(before: Markup, both: Markup) -> tuple[str, list[Span], list[str]]:
    """Words, spans and complaints of what follows ``before`` in ``both``."""
    text = both.text[len(before.text) :].lstrip()
    cut = len(both.text) - len(text)
    # an entity that the prompt completes is not the reply's; one with its words only may be
    spans = [
        replace(span, start=max(span.start - cut, 0), end=max(span.end - cut, 0))
        for index, span in enumerate(both.spans)
        if not (index < len(before.spans) and before.spans[index].boxes)
    ]
    dropped = [
        f"{item.text!r}: {item.reason}" for item in both.dropped if item not in before.dropped
    ]
    return text, spans, dropped


class _Found(NamedTuple):
    """A box in its original image."""

    box: Box
    locations: tuple[int, int]
    logprob: float
    confidence: float


def _boxes(
    span: Span,
    prompt: Encoded,
    transform: ImageTransform,
    num_cells: int,
    logprobs: Sequence[float | None],
) -> tuple[list[_Found], list[str]]:
    """Boxes of a span, and why others are missing.

    Args:
        span: With the positions of its locations among the ids it was parsed from.
        prompt: Whose last image the boxes lie in.
        transform: Undone.
        num_cells: Cells along each side of the grid.
        logprobs: Of each id; None if it was given.
    """
    found, problems = [], []
    for box, locations, positions in zip(span.boxes, span.locations, span.positions, strict=True):
        name = f"locations {locations} of {span.text!r}"
        (top, left), (bottom, right) = (divmod(index, num_cells) for index in locations)
        if not prompt.image_sizes:
            problems.append(f"{name}: expected an image in the prompt, found none")
        elif left > right or top > bottom:
            problems.append(f"{name}: expected the top-left corner first, found it reversed")
        else:
            width, height = prompt.image_sizes[-1]
            moved = transform.box_out(box, width=width, height=height).clipped()
            chosen = [value for value in (logprobs[i] for i in positions) if value is not None]
            logprob = math.fsum(chosen)
            confidence = math.exp(logprob / len(chosen)) if chosen else 1.0
            if moved.area > 0.0:
                found.append(_Found(moved, locations, logprob, confidence))
            else:
                problems.append(f"{name}: expected a box inside the image, found none of it there")
    return found, problems
