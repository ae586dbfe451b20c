"""A page of all pictures of a list with what was said of them: one HTML file, pictures inside.

Pictures are made small, so that a page of a thousand is some tens of megabytes; it needs no other
file and no network.
"""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from kosmos.document.types import ImageSource
from kosmos.files import write_text
from kosmos.generate.export import NO_PHRASE, reply_marks
from kosmos.generate.request_file import Entry, Problem
from kosmos.generate.sinks.sink import Row, spans
from kosmos.image.codec import decode
from kosmos.image.config import ImageConfig
from kosmos.image.labels import Mark
from kosmos.image.svg import svg_boxes
from kosmos.logs import printable

_LONGEST_PX = 480
_ENLARGED_PX = 320

_CSS = """
:root { --ink:#1c2027; --soft:#5d6470; --line:#e4e1d8; --paper:#fbfaf6; --card:#fff; --bad:#a4420b }
* { box-sizing:border-box }
body { margin:0; background:var(--paper); color:var(--ink);
       font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif }
main { max-width:1280px; margin:0 auto; padding:2rem 1.25rem 4rem }
h1 { font-size:1.8rem; letter-spacing:-.02em; margin:0 0 .4rem }
dl { display:grid; grid-template-columns:max-content 1fr; gap:.1rem 1.2rem; font-size:.9rem;
     margin:.8rem 0 1.6rem } dt { color:var(--soft) } dd { margin:0; overflow-wrap:anywhere }
.grid { display:grid; gap:1rem; align-items:start;
        grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr)) }
figure { margin:0; background:var(--card); border:1px solid var(--line); border-radius:10px;
         overflow:hidden; break-inside:avoid }
figure svg { width:100%; height:auto; display:block; background:#eee }
figcaption { padding:.6rem .8rem .8rem; overflow-wrap:anywhere } p { margin:.15rem 0 }
.name,.asked,li { font-size:.82rem; color:var(--soft) } .bad { color:var(--bad) }
ul { margin:.3rem 0 0; padding-left:1.1rem } ul:empty { display:none }
li b { color:var(--ink); font-weight:500 }
"""


class Page:
    """Makes a figure of each answer as it comes, and the page of them at the end.

    Args:
        path: The file.
        title: What was done.
        facts: What the page says above its figures; empty ones are left out.
        show_confidence: Whether labels of boxes end in the confidence.
    """

    def __init__(
        self, path: Path, *, title: str, facts: Mapping[str, str], show_confidence: bool = False
    ) -> None:
        self._path = path
        self._title = title
        self._facts = facts
        self._show_confidence = show_confidence
        self._figures: dict[int, str] = {}

    def put(self, place: int, entry: Entry, found: Row | Problem) -> None:
        """Make the figure of an answer, or of what has none."""
        self._figures[place] = "".join(self._figure(entry, found))

    def finish(self) -> None:
        """Write the page, in the order of the list."""
        facts = "".join(
            f"<dt>{name}</dt><dd>{_text(fact)}</dd>" for name, fact in self._facts.items() if fact
        )
        head = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{_text(self._title)}</title><style>{_CSS}</style></head>"
            f"<body><main><h1>{_text(self._title)}</h1><dl>{facts}</dl><div class=grid>\n"
        )
        figures = "".join(self._figures[place] for place in sorted(self._figures))
        write_text(self._path, f"{head}{figures}</div></main></body></html>\n")

    def _figure(self, entry: Entry, found: Row | Problem) -> Iterator[str]:
        yield "<figure>"
        if entry.images and not isinstance(found, Problem):
            marks = reply_marks(spans(found), show_confidence=self._show_confidence)
            yield _drawn(entry.images[-1], marks, title=found.get("text") or entry.words)
        yield f"<figcaption><p class=name>{_text(entry.label)}</p>"
        for field in ("prompt", "question", "expression"):
            if field in entry.asked:
                yield f"<p class=asked>{_text(str(entry.asked[field]))}</p>"
        if isinstance(found, Problem):
            yield f"<p class=bad>{_text(found.error)}</p>"
        else:
            yield f"<p>{_text(found.get('text', ''))}</p><ul>"
            for span in spans(found):
                for box, sure in zip(span.boxes_px, span.confidence, strict=True):
                    corners = " ".join(f"{side:.0f}" for side in box)
                    phrase = _text(span.text or NO_PHRASE)
                    yield f"<li><b>{phrase}</b> {corners}, {sure:.0%} sure</li>"
            yield "</ul>"
        yield "</figcaption></figure>\n"


def _text(words: str) -> str:
    return escape(printable(words))


def _drawn(source: ImageSource, marks: Mapping[Mark, str], *, title: str) -> str:
    """A picture made small with its boxes; only a tiny one is enlarged, in squares."""
    picture = decode(source, max_pixels=ImageConfig().max_pixels).copy()
    picture.thumbnail((_LONGEST_PX, _LONGEST_PX))
    longest = max(picture.size)
    min_side = _ENLARGED_PX * min(picture.size) // longest if longest < _ENLARGED_PX else 1
    titles = list(marks.values())
    svg = svg_boxes(picture, list(marks), title=title, titles=titles, min_side=min_side)
    return svg.partition("?>")[2]
