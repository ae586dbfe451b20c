"""Answers for others: JSON, COCO and SVG.

Source: the COCO data and results formats as pycocotools 2.0 reads them. Departure: annotations
also have a ``score``, as results do, since a model said them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import PIL.Image

from kosmos.boxes import Box
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.generate.reply import CandidateScore, GroundedSpan, Located, Reply
from kosmos.generate.request import Answer, Locate, Request, Score
from kosmos.image.labels import Mark
from kosmos.image.svg import svg_boxes

NO_PHRASE = "(no phrase)"
"""COCO category of boxes that no phrase precedes."""


def reply_to_json(reply: Reply) -> dict[str, Json]:
    """A reply as JSON values."""
    return {
        "text": reply.text,
        "grounded": [span_to_json(span) for span in reply.grounded],
        "markup": reply.markup,
        "token_ids": list(reply.token_ids),
        "logprob": reply.logprob,
        "token_logprobs": list(reply.token_logprobs),
        "finish": reply.finish,
        "dropped": list(reply.dropped),
    }


def scores_to_json(candidates: Sequence[str], scores: Sequence[CandidateScore]) -> dict[str, Json]:
    """Scores of candidates as JSON values, and which is the best."""
    rows = list(zip(candidates, scores, strict=True))
    scored: list[Json] = [
        {
            "candidate": candidate,
            "logprob": score.logprob,
            "mean_logprob": score.mean_logprob,
            "num_tokens": score.num_tokens,
        }
        for candidate, score in rows
    ]
    return {
        "scores": scored,
        "best_by_sum": max(rows, key=lambda row: row[1].logprob)[0],
        "best_by_mean": max(rows, key=lambda row: row[1].mean_logprob)[0],
    }


def answer_to_json(request: Request, answer: Answer) -> dict[str, Json]:
    """An answer as JSON values: its best reply, its boxes under their phrase, or its scores.

    Args:
        request: With a phrase if it is to locate, and strings if candidates are to be scored.
        answer: What :meth:`~kosmos.generate.generator.Generator.answer` gave.
    """
    if isinstance(request, Score):
        scores = [item for item in answer if isinstance(item, CandidateScore)]
        return scores_to_json([str(candidate) for candidate in request.candidates], scores)
    if isinstance(request, Locate):
        boxes = [item for item in answer if isinstance(item, Located)]
        return {"grounded": [span_to_json(located_span(request.phrase or "", boxes))]}
    (reply, *_) = [item for item in answer if isinstance(item, Reply)]
    return reply_to_json(reply)


def span_to_json(span: GroundedSpan) -> dict[str, Json]:
    """A phrase and its boxes as JSON values; the lists are as long as there are boxes."""
    return {
        "text": span.text,
        "start": span.start,
        "end": span.end,
        "boxes": [[box.x0, box.y0, box.x1, box.y1] for box in span.boxes],
        "boxes_px": [list(box) for box in span.boxes_px],
        "confidence": list(span.confidence),
        "logprobs": list(span.logprobs),
        "locations": [list(pair) for pair in span.locations],
        "guaranteed_ious": list(span.guaranteed_ious),
        "image_index": span.image_index,
    }


def span_from_json(row: Mapping[str, Any]) -> GroundedSpan:
    """What :func:`span_to_json` wrote."""
    tuples = {
        name: tuple(tuple(item) if isinstance(item, list) else item for item in value)
        for name, value in row.items()
        if isinstance(value, list)
    }
    return GroundedSpan(**{**row, **tuples, "boxes": tuple(Box(*box) for box in row["boxes"])})


def located_span(text: str, found: Sequence[Located]) -> GroundedSpan:
    """Boxes of a phrase that was asked for, as a reply to a prompt with the phrase has them.

    Args:
        text: The phrase.
        found: At least one box, all in one image.

    Raises:
        DataError: If there is no box, or they lie in several images.
    """
    images = {item.image_index for item in found}
    if len(images) != 1:
        raise DataError(f"{text!r}: expected boxes in one image, found them in {len(images)}")
    return GroundedSpan(
        text=text,
        boxes=tuple(item.box for item in found),
        start=0,
        end=0,
        image_index=images.pop(),
        boxes_px=tuple(item.box_px for item in found),
        locations=tuple(item.locations for item in found),
        logprobs=tuple(item.logprob for item in found),
        confidence=tuple(item.confidence for item in found),
        guaranteed_ious=tuple(item.guaranteed_iou for item in found),
    )


# --- COCO


class Pictured(NamedTuple):
    """A picture, and the phrases that a reply found in it."""

    file_name: str
    width: int
    """In pixels, of the picture as it is."""
    height: int
    spans: Sequence[GroundedSpan]


def replies_to_coco(pictured: Iterable[Pictured]) -> dict[str, Json]:
    """Replies as a COCO data set: a category for each phrase, an annotation for each box.

    ``bbox`` is x, y, width and height in pixels of the picture as it is, ``score`` the confidence.
    Two replies about one file share its image; ids count from 1 in the order things come.

    Args:
        pictured: What was found, picture by picture.
    """
    images: dict[tuple[str, int, int], int] = {}
    categories: dict[str, int] = {}
    annotations: list[Json] = []
    for file_name, width, height, spans in pictured:
        image_id = images.setdefault((file_name, width, height), len(images) + 1)
        for span in spans:
            name = span.text or NO_PHRASE
            category_id = categories.setdefault(name, len(categories) + 1)
            for (x0, y0, x1, y1), score in zip(span.boxes_px, span.confidence, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": category_id,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": 0,
                        "segmentation": [],
                        "score": score,
                    }
                )
    return {
        "info": {"description": "boxes found by a model"},
        "licenses": [],
        "images": [
            {"id": image_id, "file_name": file_name, "width": width, "height": height}
            for (file_name, width, height), image_id in images.items()
        ],
        "annotations": annotations,
        "categories": [
            {"id": category_id, "name": name, "supercategory": ""}
            for name, category_id in categories.items()
        ],
    }


def coco_results(
    pictured: Iterable[Pictured],
    *,
    image_ids: Mapping[str, int],
    category_ids: Mapping[str, int],
) -> list[Json]:
    """Replies as COCO results, to be scored against truths by pycocotools.

    Args:
        pictured: What was found, picture by picture.
        image_ids: Ids of the truths' images by file name.
        category_ids: Ids of the truths' categories by phrase. Boxes of other phrases are left
            out: what is not a category of the truths can be neither right nor wrong.

    Raises:
        DataError: If a picture has no id.
    """
    results: list[Json] = []
    for file_name, _, _, spans in pictured:
        if file_name not in image_ids:
            raise DataError(f"{file_name}: expected a picture of the truths, found none")
        for span in spans:
            category_id = category_ids.get(span.text or NO_PHRASE)
            if category_id is None:
                continue
            for (x0, y0, x1, y1), score in zip(span.boxes_px, span.confidence, strict=True):
                results.append(
                    {
                        "image_id": image_ids[file_name],
                        "category_id": category_id,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "score": score,
                    }
                )
    return results


# --- SVG


def reply_marks(spans: Iterable[GroundedSpan], *, show_confidence: bool = False) -> dict[Mark, str]:
    """What to draw, and what to say of it: each box once, labelled with its phrase.

    Args:
        spans: Phrases with boxes in one picture.
        show_confidence: Whether labels end in the confidence, which gives each box its own color.
    """
    marks: dict[Mark, str] = {}
    for span in spans:
        for box, sure in zip(span.boxes, span.confidence, strict=True):
            label = f"{span.text} {sure:.2f}".strip() if show_confidence else span.text
            # models repeat themselves, and labels upon labels of one box hide the picture
            marks.setdefault(Mark(box, label), f"{span.text or NO_PHRASE}, {sure:.0%} sure")
    return marks


def reply_to_svg(
    spans: Sequence[GroundedSpan],
    picture: PIL.Image.Image,
    *,
    title: str = "",
    href: str | None = None,
    show_confidence: bool = False,
) -> str:
    """The boxes of a reply drawn on their picture, as an SVG document.

    Args:
        spans: ``Reply.grounded``, or a list of what :func:`located_span` made.
        picture: What the boxes lie in, as it was given.
        title: What the picture is, such as ``Reply.text``, for those who do not see it.
        href: Address of the picture to link to; None puts it in.
        show_confidence: Whether labels end in the confidence. It is always told of a box that is
            pointed at or read aloud.
    """
    marks = reply_marks(spans, show_confidence=show_confidence)
    return svg_boxes(picture, list(marks), title=title, titles=list(marks.values()), href=href)
