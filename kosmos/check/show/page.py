"""Rows as one HTML page: each with its picture, and below it the words of its documents."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from kosmos.check.show.picture import draw_row
from kosmos.check.show.words import ShownRow
from kosmos.image.labels import PALETTE

_CSS = """
:root { --ink:#1c2027; --soft:#5d6470; --given:#8f959f; --line:#e4e1d8; --paper:#fbfaf6 }
body { margin:0; background:var(--paper); color:var(--ink);
       font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif }
main { max-width:1280px; margin:0 auto; padding:2rem 1.25rem 4rem }
section { border-bottom:1px solid var(--line); padding-bottom:2.5rem; margin-bottom:2rem }
svg { max-width:100%; height:auto; display:block }
h2 { font-size:1rem; margin:1.2rem 0 .1rem; padding-left:.6rem; border-left:4px solid }
h2 small, .given { color:var(--given); font-weight:400 } h2 small { color:var(--soft) }
p { margin:.1rem 0 .1rem; padding-left:.85rem; max-width:95ch; overflow-wrap:anywhere }
"""


class NamedRow(NamedTuple):
    """A row to draw."""

    name: str
    row: ShownRow
    sees: Bool[np.ndarray, "positions length"]
    """Who sees whom in it."""


def page(rows: Sequence[NamedRow]) -> str:
    """The whole page; it needs no other file and no network."""
    sections = "".join(
        f"<section>{draw_row(named.row, named.sees, name=named.name).to_svg(title=named.name)}"
        f"{''.join(_documents(named.row))}</section>"
        for named in rows
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(rows[0].name if rows else 'rows')}</title><style>{_CSS}</style></head>"
        f"<body><main>{sections}</main></body></html>\n"
    )


def _documents(row: ShownRow) -> Iterator[str]:
    for number, doc in enumerate(row.documents):
        color = PALETTE[number % len(PALETTE)]
        facts = " \u00b7 ".join(row.document_facts(number))
        words = "".join(
            escape(said) if learned else f"<span class=given>{escape(said)}</span>"
            for said, learned in row.sayings(doc.start, doc.stop)
        )
        yield f'<h2 style="border-color:{color}">{escape(doc.id)} <small>{facts}</small></h2>'
        yield f"<p>{words}</p>"
