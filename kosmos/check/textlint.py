"""Text linter: what a document's words should not hold, told from one text.

Markup of the web, text decoded by the wrong table, control characters, control tokens typed as
words, and borders between stretches of a caption that run through a word.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from kosmos.text.markup import TOKEN

_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9-]*(?:\s[^<>]*)?/?>")
_ENTITY = re.compile(r"&(?:#\d{2,6}|#x[0-9a-fA-F]{2,5}|[a-zA-Z]{2,8});")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]")
_OUR_TOKEN = re.compile(r"</?s>|<(?:pad|unk|mask)>|</?image>|</(?:line|doc|chunk)>")
_THEIR_TOKEN = re.compile(r"<\|[a-z_]{2,20}\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
_HIGH_RUN = re.compile(r"[^\x00-\x7f]{2,}")

_LEADS = "\u00c3\u00c2\u00e2\u00d0\u00d1"
"""What begins accents, punctuation and Cyrillic of UTF-8 read as Windows-1252."""
_SURE_CHARS = 4
"""A run so long that happens to be UTF-8 is; two characters may be a name and its trademark."""
_MIN_TAGS = 3
_HTML_SHARE = 0.2
"""Characters in tags from which on a text is a page's source and not its words."""
_AROUND = 30


class TextFault(NamedTuple):
    """Something in a text that should not be there."""

    what: str
    """The same for every text that has it."""
    excerpt: str
    """Where it stands in this one."""
    hint: str


def text_faults(text: str) -> Iterator[TextFault]:
    """Faults of a text, each kind once.

    Tags with a meaning here are told apart: ``<s>`` is a control token that a trained model never
    sees as words, ``<phrase>`` is grounding markup, ``<b>`` is the web's.
    """
    if "<" in text:
        yield from _tags(text)
    if "&" in text and (entity := _ENTITY.search(text)):
        yield TextFault(
            "HTML entities, such as &amp;", _excerpt(text, entity), "html.unescape reads them"
        )
    if (theirs := _THEIR_TOKEN.search(text)) is not None:
        yield TextFault(
            "control tokens of another model typed as text",
            _excerpt(text, theirs),
            "take them out; here they are words like any other",
        )
    if text.isascii():
        if control := _CONTROL.search(text):
            yield _control_characters(text, control)
        return
    garbled = next((run for run in _HIGH_RUN.finditer(text) if _is_mojibake(run[0])), None)
    if garbled is not None:
        yield TextFault(
            "mojibake: UTF-8 that was read as another encoding",
            _excerpt(text, garbled),
            "text.encode('cp1252').decode('utf-8') mends most of it; better, read the source anew",
        )
    elif control := _CONTROL.search(text):
        yield _control_characters(text, control)
    if lost := re.search("\ufffd", text):
        yield TextFault(
            "characters that were lost in decoding (U+FFFD)",
            _excerpt(text, lost),
            "read the source in its own encoding",
        )


def splits_word(before: str, after: str) -> bool:
    """Whether the border between two stretches runs through a word, in scripts with spaces."""
    left, right = before[-1:], after[:1]
    return left.isascii() and right.isascii() and left.isalpha() and right.isalpha()


def _tags(text: str) -> Iterator[TextFault]:
    if ours := _OUR_TOKEN.search(text):
        yield TextFault(
            "control tokens typed as text",
            _excerpt(text, ours),
            "they are read as words; documents are laid out with parts, not with tokens",
        )
    if markup := TOKEN.search(text):
        yield TextFault(
            "grounding markup typed as text, which becomes control tokens",
            _excerpt(text, markup),
            "right where it is meant; boxes that are known belong in Grounded parts",
        )
    words = _OUR_TOKEN.sub("", TOKEN.sub("", text))
    tags = _TAG.findall(words)
    if len(tags) >= _MIN_TAGS and sum(map(len, tags)) >= _HTML_SHARE * len(words):
        tag = _TAG.search(text)
        assert tag is not None
        yield TextFault(
            "text that is mostly HTML",
            _excerpt(text, tag),
            "extract the words from the page first",
        )


def _control_characters(text: str, found: re.Match[str]) -> TextFault:
    return TextFault(
        "control characters", _excerpt(text, found), "binary data or a broken download; clean it"
    )


def _is_mojibake(run: str) -> bool:
    """Whether a stretch beyond ASCII is what UTF-8 looks like read as Windows-1252 or Latin-1."""
    try:
        # five bytes have no character in Windows-1252; readers let them through as they are
        data = b"".join(
            character.encode("latin-1" if "\x80" <= character <= "\x9f" else "cp1252")
            for character in run
        )
        data.decode("utf-8")
    except UnicodeError:
        return False
    return run[0] in _LEADS or len(run) >= _SURE_CHARS


def _excerpt(text: str, found: re.Match[str]) -> str:
    start, stop = max(0, found.start() - _AROUND), found.end() + _AROUND
    return repr(text[start:stop])
