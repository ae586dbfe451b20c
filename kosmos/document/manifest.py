"""What a folder of shards says of itself: counts, checksums, and where the documents came from.

::

    {"format": "kosmos-documents", "version": 1, "num_documents": 1234,
     "index": {"file": "index.npy", "sha256": "..."},
     "shards": [{"file": "00000.tar", "sha256": "...", "num_documents": 1000, "bytes": 9182208},
                {"file": "00001.tar", "sha256": "...", "num_documents": 234, "bytes": 2150400}],
     "provenance": whatever the writer was given}
"""

from dataclasses import dataclass
from pathlib import Path

from kosmos import config
from kosmos.errors import ConfigError, DataError
from kosmos.files import Json, check_replaceable, json_text, read_json, sha256_json
from kosmos.remote import AnyPath

FORMAT = "kosmos-documents"
VERSION = 1
FILE = "manifest.json"
INDEX = "index.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One tar file."""

    file: str
    sha256: str
    num_documents: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """The file of offsets."""

    file: str = INDEX
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The files of a folder of shards; provenance is kept beside it, as it may be any JSON."""

    format: str = FORMAT
    version: int = VERSION
    num_documents: int
    index: IndexFile
    shards: tuple[Shard, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the contents: the checksums, not the provenance."""
        return sha256_json(config.to_json(self))

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 by file name."""
        files: list[Shard | IndexFile] = [*self.shards, self.index]
        return {file.file: file.sha256 for file in files}


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"{number:05d}.tar"


def check_shards(folder: Path) -> None:
    """Fail unless a folder may be replaced by shards: it is empty, or shards and no more.

    Raises:
        ConfigError: Naming what lies there.
    """

    def is_result(folder: Path) -> bool:
        value = read_json(folder / FILE)
        return isinstance(value, dict) and value.get("format") == FORMAT

    check_replaceable(
        folder, "a folder of shards", files=(FILE, INDEX, "[0-9]*.tar"), is_result=is_result
    )


def write_manifest(folder: Path, manifest: Manifest, provenance: Json) -> None:
    """Write ``manifest.json``, the last file of a folder that is not visible yet.

    Raises:
        OSError: If the disk refuses.
    """
    value = config.to_json(manifest)
    assert isinstance(value, dict)
    value["provenance"] = provenance
    (folder / FILE).write_text(json_text(value, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: AnyPath) -> tuple[Manifest, dict[str, Json]]:
    """Read ``manifest.json``: checked, and as the JSON it is, with the provenance.

    Raises:
        DataError: If it is missing, of another format or version, or contradicts itself.
    """
    path = folder / FILE
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise DataError(f"{path}: expected the manifest of a folder of documents ({FORMAT!r})")
    if value.get("version") != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION}, found {value.get('version')!r}",
            hint="it was written by another version of this package",
        )
    if "provenance" not in value:
        raise DataError(f"{path}: expected a provenance, found {sorted(value)}")
    described = {name: item for name, item in value.items() if name != "provenance"}
    try:
        manifest = config.from_json(Manifest, described, str(path))
    except ConfigError as error:
        raise DataError(error.message, hint=error.hint) from error
    if manifest.index.file != INDEX:
        raise DataError(f"{path}: expected {INDEX}, found {manifest.index.file!r}")
    for number, shard in enumerate(manifest.shards):
        if shard.file != shard_name(number):
            raise DataError(f"{path}: expected {shard_name(number)}, found {shard.file!r}")
    total = sum(shard.num_documents for shard in manifest.shards)
    if total != manifest.num_documents:
        raise DataError(
            f"{path}: expected num_documents {total}, the sum of the shards', "
            f"found {manifest.num_documents}"
        )
    return manifest, value
