"""Captions with their pictures, in whatever container they lie: tars, tables, the release's TSV.

A record is a row with ``caption``, ``key`` and what else stands beside them; its picture is in the
row. One that a list leaves out is known by its URL, or by its key where it has none.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress

from kosmos.corpus.formats.config import PictureConfig
from kosmos.corpus.formats.pictures import Exclusion, Missing, Picture
from kosmos.corpus.formats.records import Row, SourceFile, read_rows, text_field, undamaged
from kosmos.corpus.formats.samples import read_samples, sample_fields
from kosmos.corpus.formats.tally import Tally
from kosmos.corpus.formats.tsv import read_tsv
from kosmos.errors import DataError
from kosmos.files import Json


def captioned_rows(
    file: SourceFile, suffixes: Collection[str], config: PictureConfig, tally: Tally
) -> Iterator[Row]:
    """The records of a file; of TSV, what stands in its last column is ``objects``.

    Args:
        file: The file.
        suffixes: Of the containers that the format has.
        config: What a damaged file does.
        tally: Takes what is bad.

    Raises:
        DataError: If the file is of another kind, or damaged.
    """
    suffix = file.path.suffix.lower()
    if suffix not in suffixes:
        wanted = ", ".join(sorted(suffixes))
        raise DataError(f"{file.path}: expected a file named {wanted}")
    if suffix == ".tar":
        for sample in read_samples(file, config, tally):
            fields = sample_fields(sample, tally)
            if fields is None:
                continue
            if text_field(fields, "caption") is None and ".txt" in sample.members:
                with suppress(UnicodeDecodeError):
                    fields["caption"] = sample.members[".txt"].decode("utf-8")
            yield Row(sample.where, {**fields, "key": sample.key}, {"": [sample.picture]})
    elif suffix == ".tsv":
        for line in undamaged(read_tsv(file, tally), config, tally):
            values: dict[str, Json] = {
                "key": line.key,
                "caption": line.caption,
                "width": line.width,
                "height": line.height,
                "objects": line.objects,
            }
            yield Row(line.where, values, {"": [line.picture]})
    else:
        yield from read_rows(file, config, tally, needs=("caption",))


def held_picture(row: Row, excluded: Exclusion) -> Picture | Missing:
    """The picture in a row, if it has one and may be taken."""
    known = text_field(row.fields, "url", "key", "image")
    if known is not None and known in excluded:
        return Missing.excluded(known)
    if row.picture is None:
        return Missing(row.where, "no picture")
    return Picture(text_field(row.fields, "key") or row.where, row.picture)
