"""Generated ids to a Reply: clean words, phrases, and boxes in the picture they speak of.

A prompt may end in the middle of an entity, and the reply then completes it::

    prompt  <grounding><phrase> a red circle</phrase>
    reply   <object><patch_index_0044><patch_index_0863></object> in the corner.

So the reply is parsed together with the prompt from its last ``<phrase>`` or ``<object>`` on, and
what the prompt said is cut off again. Offsets count in the words of the reply alone: a phrase
that stands in the prompt keeps its words in ``span.text`` and has ``start == end == 0``; one that
begins in the prompt covers its part in the reply. Everywhere else
``reply.text[span.start:span.end] == span.text``.
"""

from collections.abc import Sequence
from dataclasses import replace

from kosmos.boxes import Box
from kosmos.document.encode import Encoded
from kosmos.generate.reply import GroundedSpan, Reply
from kosmos.generate.search import Draft
from kosmos.image.transform import ImageTransform
from kosmos.text.markup import Span, parse_markup
from kosmos.text.tokenizer import Tokenizer
from kosmos.text.vocabulary import Vocabulary


def make_reply(
    draft: Draft,
    prompt: Encoded,
    *,
    tokenizer: Tokenizer,
    transform: ImageTransform,
    stop: Sequence[str] = (),
) -> Reply:
    """Read what was generated behind a prompt.

    Args:
        draft: The generated ids.
        prompt: What they follow; boxes lie in its last image.
        tokenizer: Ids to words.
        transform: The preprocessing of the image, which boxes are moved back through.
        stop: Strings before the first of which the reply is cut.
    """
    vocabulary = tokenizer.vocabulary
    tail = open_tail(prompt.token_ids.tolist(), vocabulary)
    # decoded together, so that a word begun in the prompt stays one word
    whole = tokenizer.decode([*tail, *draft.token_ids])
    markup = tokenizer.decode(draft.token_ids)
    num_cut = _num_behind(markup, stop)
    whole, markup = whole[: len(whole) - num_cut], markup[: len(markup) - num_cut].rstrip()
    text, spans, dropped = _parse(tokenizer.decode(tail), whole, vocabulary.num_cells)
    grounded = []
    for span in spans:
        boxes, problems = _boxes(span, prompt, transform, vocabulary.num_cells)
        dropped += problems
        if boxes:
            width, height = prompt.image_sizes[-1]
            grounded.append(
                GroundedSpan(
                    text=span.text,
                    boxes=boxes,
                    start=span.start,
                    end=span.end,
                    image_index=len(prompt.images) - 1,
                    boxes_px=tuple(box.to_pixels(width=width, height=height) for box in boxes),
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


def _num_behind(markup: str, stop: Sequence[str]) -> int:
    """Characters from the first stop string on."""
    places = [markup.find(string) for string in stop]
    return len(markup) - min((place for place in places if place >= 0), default=len(markup))


def _parse(opening: str, whole: str, num_cells: int) -> tuple[str, list[Span], list[str]]:
    """Words, spans and complaints of what follows ``opening`` in ``whole``."""
    before = parse_markup(opening, num_cells=num_cells, lenient=True)
    both = parse_markup(whole, num_cells=num_cells, lenient=True)
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


def _boxes(
    span: Span, prompt: Encoded, transform: ImageTransform, num_cells: int
) -> tuple[tuple[Box, ...], list[str]]:
    """Boxes of a span in its original image, and why others are missing."""
    boxes, problems = [], []
    for box, locations in zip(span.boxes, span.locations, strict=True):
        name = f"locations {locations} of {span.text!r}"
        (top, left), (bottom, right) = (divmod(index, num_cells) for index in locations)
        if not prompt.image_sizes:
            problems.append(f"{name}: expected an image in the prompt, found none")
        elif left > right or top > bottom:
            problems.append(f"{name}: expected the top-left corner first, found it reversed")
        else:
            width, height = prompt.image_sizes[-1]
            moved = transform.box_out(box, width=width, height=height).clipped()
            if moved.area > 0.0:
                boxes.append(moved)
            else:
                problems.append(f"{name}: expected a box inside the image, found none of it there")
    return tuple(boxes), problems
