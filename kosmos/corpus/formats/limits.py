"""How much of a source is held in memory at once, whatever the source says of itself.

A record past a limit is counted under a reason that names it, and reading goes on behind it.
"""

from kosmos.image.codec import MAX_FILE_BYTES

MiB = 1 << 20

MAX_LINE_BYTES = 32 * MiB
"""A line, a value of a JSON list, a JSON member: what is parsed, and becomes up to fifty times as
large. The largest are the release's TSV rows, with a picture of up to 24 MiB in base64."""
MAX_OBJECTS_CHARS = MiB
"""Of boxes in the release's TSV, as Python writes them: to read it takes a hundred times more."""
MAX_SKIPPED_BYTES = 512 * MiB
"""Of a line that is too long, how much is passed over in search of its end. A file without line
breaks, or a stream without an end, is given up behind it."""
MAX_RECORD_BYTES = MAX_FILE_BYTES
"""All that is held of one record: a member of a tar, the members of a sample, a picture's file."""
MAX_WHOLE_BYTES = 1536 * MiB
"""A JSON file that is read as a whole. The largest published list of boxes, LVIS's, has 1.1 GB."""
MAX_TAR_HEADER_BYTES = MiB // 16
"""Of a long name or attributes in front of a member: what Linux lets a file's attribute have."""
MAX_UNPACKED_RATIO = 1100
"""What a packed file may become many times its size; gzip, the most common, cannot do more."""
TABLE_BYTES = 64 * MiB
"""Rows of a table are read together up to about this size."""
