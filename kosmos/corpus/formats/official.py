"""Official files: a JSON object of lists, whose entries name each other by number.

::

    COCO     {"images": [{"id": 7, "file_name": ...}], "annotations": [{"image_id": 7, ...}],
              "categories": [{"id": 1, "name": ...}]}
    VQAv2    {"questions": [{"question_id": 9, "image_id": 7, ...}]}
             {"annotations": [{"question_id": 9, ...}]}

- :func:`read_lists`: the entries of such a file
- :func:`joined`: entries with those that name them
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from kosmos.corpus.formats.frame import whole_number
from kosmos.corpus.formats.records import Row, read_whole
from kosmos.corpus.formats.tally import Tally
from kosmos.errors import DataError
from kosmos.files import Json
from kosmos.remote import AnyPath


def read_lists(path: AnyPath, tally: Tally, *names: str) -> list[list[Row]]:
    """The entries of each of some lists in a file; those that are no objects are bad.

    Raises:
        DataError: If the file is no JSON object with these lists.
    """
    value = read_whole(path)
    lists = value if isinstance(value, dict) else {}
    found: list[list[Row]] = []
    for name in names:
        entries = lists.get(name)
        if not isinstance(entries, list):
            wanted = " and ".join(", ".join(names).rsplit(", ", 1))
            raise DataError(f"{path}: expected an object with lists {wanted}, found no {name}")
        found.append([])
        for number, entry in enumerate(entries):
            where = f"{path.name}: {name}[{number}]"
            if isinstance(entry, dict):
                found[-1].append(Row(where, entry))
            else:
                tally.bad("not a JSON object", where)
    return found


def joined(
    rows: Sequence[Row], others: Sequence[Row], tally: Tally, *, on: tuple[str, str]
) -> Iterator[tuple[Row, list[Row]]]:
    """Entries of a list, each with those of another that name it.

    Args:
        rows: The entries.
        others: Those that name them.
        tally: Takes entries without a number, which are bad, and others that name no entry.
        on: In which field the entries have their numbers, and the others the numbers they name.
    """
    waiting: dict[int | str, list[Row]] = defaultdict(list)
    for other in others:
        if (key := _key(other.fields.get(on[1]))) is None:
            tally.bad(f"no {on[1]}", other.where)
        else:
            waiting[key].append(other)
    for row in rows:
        if (key := _key(row.fields.get(on[0]))) is None:
            tally.bad(f"no {on[0]}", row.where)
        else:
            yield row, waiting.pop(key, [])
    for other in (other for left in waiting.values() for other in left):
        tally.leave_out(f"{on[1]} that no entry has", other.where)


def _key(value: Json) -> int | str | None:
    number = whole_number(value)
    return number if number is not None or not isinstance(value, str) else value
