"""Boxes written into what is said, in the ways that others have, become boxes of phrases.

::

    ms-swift    Where is the <ref-object>?   <bbox>          and in the row
                "objects": {"ref": [...], "bbox": [[x0, y0, x1, y1], ...]}
    Qwen-VL     <ref>a kite</ref><box>(100,200),(500,600)</box>      a grid of 0 to 999, or to 1000
    InternVL    <ref>a kite</ref><box>[[100, 200, 500, 600]]</box>   the same
    LLaVA       [0.42, 0.43, 0.72, 0.63]     fractions of the picture when padded to a square

What the first means is stated: pixels, or fractions (``"bbox_type": "norm1"``). The others are
known by their form, and what they were taken for is counted as a change. A box belongs to the
phrase before it: a reference, or ``this region:``. Boxes alone answer what the question names, or
are *it*. Where there is no phrase, or no convention fits, the words stay, and that is counted.

Source: ms-swift, custom datasets; Qwen-VL (arXiv:2308.12966) section 2.3; LLaVA#606, LLaVA#623.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kosmos.boxes import Box
from kosmos.corpus.formats.frame import OTHER_SIZE, OVERHANG, Frame, whole_number
from kosmos.corpus.formats.pictures import Picture
from kosmos.corpus.formats.tally import Tally
from kosmos.document.types import Grounded, Part, Role, Text
from kosmos.files import Json

_NUMBER = r"\d+(?:\.\d+)?"
_TOKEN = re.compile(
    r"(?P<ref><ref-object>)|(?P<bbox><bbox>)"
    r"|(?:<ref>|<\|object_ref_start\|>)(?P<named>[^<]*)(?:</ref>|<\|object_ref_end\|>)"
    r"|(?:<box>|<\|box_start\|>)(?P<grid>[^<]*)(?:</box>|<\|box_end\|>)"
    rf"|\[(?P<list>\s*{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}\s*)\]"
)
_REGION = re.compile(r"\bth(?:is|at|e) (?:region|area|object|(?:bounding )?box)\W*$", re.IGNORECASE)
_ASKED = re.compile(r":|\bwhere (?:is|are)\b|\b(?:find|locate|detect)\b", re.IGNORECASE)
_BETWEEN = " \t\n,;"
_MAX_PHRASE_CHARS = 200
_PADDED = "fractions of the picture padded to a square"


class UnusableError(ValueError):
    """Why a conversation cannot be used, in few words."""


@dataclass(slots=True)
class _Piece:
    words: str
    boxes: list[Box] | None = None
    """Those of a phrase; None of other words."""
    is_bare: bool = False
    """Of a phrase: whether its words were not said there."""


class WrittenBoxes:
    """The boxes of one conversation.

    Args:
        fields: The row.
        pictures: Its pictures, decoded.
        tally: Takes boxes that are none, and what was known by its form.
        where: What the row is called.
    """

    def __init__(
        self, fields: Mapping[str, Json], pictures: Sequence[Picture], tally: Tally, where: str
    ) -> None:
        objects = fields.get("objects")
        self._objects = objects if isinstance(objects, dict) else {}
        self._num_taken = {"ref": 0, "bbox": 0}
        self._fields = fields
        self._pictures = pictures
        self._tally = tally
        self._where = where
        self._asked: list[str] = []

    def parts(self, text: str, role: Role, picture: int) -> list[Part] | None:
        """A stretch of what is said as parts.

        Args:
            text: The words.
            role: Who says them.
            picture: Number of the last picture before them; -1 before the first.

        Returns:
            The parts; None if nothing is said but boxes, and none of them is of use.

        Raises:
            UnusableError: If the text and what the row has for it do not belong together.
        """
        pieces: list[_Piece] = []
        end = 0
        for token in _TOKEN.finditer(text):
            if token.start() > end:
                pieces.append(_Piece(text[end : token.start()]))
            end = token.end()
            if token.lastgroup in ("ref", "named"):
                words = self._take("ref") if token["ref"] else token["named"]
                if not isinstance(words, str) or not words.strip():
                    raise UnusableError("reference without words")
                pieces.append(_Piece(words.strip(), []))
            elif not self._place(token, pieces, role, picture):
                pieces.append(_Piece(token[0]))
        if end < len(text):
            pieces.append(_Piece(text[end:]))
        if role == "user":
            self._asked = _asked(text, pieces)
        if all(piece.is_bare and not piece.boxes for piece in pieces):
            return None
        return _joined(pieces, role)

    def finish(self) -> None:
        """Count what the row has that the conversation did not speak of."""
        for name, num_taken in self._num_taken.items():
            given = self._objects.get(name)
            for _ in range(len(given) - num_taken if isinstance(given, list) else 0):
                self._tally.change("object that the conversation does not name", self._where)

    def _take(self, name: str) -> Json:
        """The next reference or box of the row."""
        given, number = self._objects.get(name), self._num_taken[name]
        if not isinstance(given, list) or number >= len(given):
            raise UnusableError(f"more places than objects.{name}")
        self._num_taken[name] += 1
        return given[number]

    def _place(self, token: re.Match[str], pieces: list[_Piece], role: Role, picture: int) -> bool:
        """Give boxes to their phrase; False if the words stay as they are."""
        is_stated = bool(token["bbox"])
        if not is_stated and picture < 0:
            return False
        if is_stated:
            given, convention = self._stated(picture)
        else:
            given, convention = _guessed(token, self._pictures[picture].size)
        phrase = self._phrase(pieces, role, is_stated=is_stated) if given else None
        if not is_stated:
            fate = "read as" if phrase else "left as words:"
            self._tally.change(f"box written as words, {fate} {convention}", self._where)
            convention = "xyxy-fractions"
        if phrase is None or phrase.boxes is None:
            return False
        phrase.boxes += self._frame(picture).boxes(
            given, convention, self._tally, phrase=phrase.words, where=self._where
        )
        return True

    def _stated(self, picture: int) -> tuple[list[Json], str]:
        """The next box of the row and its convention."""
        ids, number = self._objects.get("image_id"), self._num_taken["bbox"]
        box = self._take("bbox")
        of = ids[number] if isinstance(ids, list) and number < len(ids) else picture
        if picture < 0 or whole_number(of) != picture:
            raise UnusableError("box of another picture than the last one before it")
        conventions = {None: "xyxy-pixels", "real": "xyxy-pixels", "norm1": "xyxy-fractions"}
        kind = self._objects.get("bbox_type")
        if not isinstance(kind, str | None) or kind not in conventions:
            raise UnusableError("nothing says what the numbers of a box mean")
        return [box], conventions[kind]

    def _frame(self, picture: int) -> Frame:
        if len(self._pictures) > 1:
            return Frame(self._pictures[picture].size)
        frame = Frame.stated(self._fields, self._pictures[0])
        if frame is None:
            raise UnusableError(OTHER_SIZE)
        return frame

    def _phrase(self, pieces: list[_Piece], role: Role, *, is_stated: bool) -> _Piece | None:
        """The phrase that boxes at the end of some pieces belong to; None if there is none."""
        said = [piece for piece in pieces if piece.boxes is not None or piece.words.strip(_BETWEEN)]
        last = said[-1] if said else None
        num_bare = sum(piece.is_bare for piece in said)
        if last is not None and last.boxes is not None:
            if not last.is_bare or num_bare >= len(self._asked):
                while pieces[-1] is not last:
                    pieces.pop()
                return last
            pieces[:] = [*said, _Piece(", ")]
        elif last is not None:
            region = _REGION.search(last.words[-_MAX_PHRASE_CHARS:])
            if region is None and not is_stated:
                return None
            if region is not None:
                before, words = last.words.removesuffix(region[0]), region[0].rstrip(" :([")
                pieces[-1:] = [_Piece(before), _Piece(words, [])]
                return pieces[-1]
        it = "this" if role == "user" else "it"
        names = self._asked[num_bare:] if role == "assistant" else []
        pieces.append(_Piece(names[0] if names else it, [], is_bare=True))
        return pieces[-1]


def _guessed(token: re.Match[str], size: tuple[int, int]) -> tuple[list[Json], str]:
    """Boxes as fractions, none if the numbers are of no known kind; and what they are taken for."""
    values = [float(number) for number in re.findall(_NUMBER, token["grid"] or token["list"])]
    boxes: list[Json] = []
    if token["grid"] is not None:
        most = 999 if max(values, default=0) <= 999 else 1000
        convention = f"a grid of 0 to {most}"
        if len(values) % 4 or max(values, default=most + 1) > most:
            return [], "no convention that is known"
        boxes += [[v / most for v in values[i : i + 4]] for i in range(0, len(values), 4)]
        return boxes, convention
    if "." not in token["list"] or max(values) > 1:
        return [], "pixels or a grid of 1000, which does not show"
    side = max(size)
    pads = [(side - length) // 2 for length in size]
    corners = [
        (value * side - pad) / length
        for value, pad, length in zip(values, pads * 2, size * 2, strict=True)
    ]
    is_inside = all(-OVERHANG <= v <= 1 + OVERHANG for v in corners)
    is_one = is_inside and corners[0] < corners[2] and corners[1] < corners[3]
    return ([[*corners]], _PADDED) if is_one else ([], "no convention that is known")


def _asked(text: str, pieces: Sequence[_Piece]) -> list[str]:
    """What a question names."""
    named = [piece.words for piece in pieces if piece.boxes is not None]
    _, *behind = _ASKED.split(text)
    words = behind[-1].strip(" .?!\n'\"") if behind else ""
    return named or ([words] if 0 < len(words) <= _MAX_PHRASE_CHARS else [])


def _joined(pieces: Sequence[_Piece], role: Role) -> list[Part]:
    """Pieces as parts, words beside each other in one."""
    parts: list[Part] = []
    loss = role == "assistant"
    for piece in pieces:
        last = parts[-1] if parts else None
        if piece.boxes:
            parts.append(Grounded(piece.words, piece.boxes, role=role, loss=loss))
        elif isinstance(last, Text) and not piece.is_bare:
            parts[-1] = Text(last.text + piece.words, role=role, loss=loss)
        elif piece.words and not piece.is_bare:
            parts.append(Text(piece.words, role=role, loss=loss))
    return parts
