"""The error tree: one root, children that also inherit the builtin a caller would expect.

::

    KosmosError
    ├── ConfigError        (ValueError)    a setting that is unknown or impossible
    ├── MarkupError        (ValueError)    grounding markup that does not parse; knows where
    ├── DataError          (ValueError)    a file or record that is not what it should be
    │   └── ImageError                     bytes that are not a usable picture
    ├── CheckpointError    (RuntimeError)  weights or a checkpoint that do not fit
    └── MissingExtraError  (ImportError)   an optional package that is not installed

A message reads *where: what was expected, what came*; the optional hint says what to do next.
"""


class KosmosError(Exception):
    """Any error this package raises on purpose.

    Args:
        message: Where, what was expected and what came; lower case, no full stop.
        hint: What the reader can do about it.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} (hint: {self.hint})"


class ConfigError(KosmosError, ValueError):
    """A setting that is unknown, of the wrong type or impossible."""


class MarkupError(KosmosError, ValueError):
    """Grounding markup that does not parse.

    Args:
        message: What was expected and what came.
        position: Character offset in the text at which parsing failed.
        hint: What the reader can do about it.
    """

    def __init__(self, message: str, *, position: int, hint: str | None = None) -> None:
        super().__init__(f"character {position}: {message}", hint=hint)
        self.position = position


class DataError(KosmosError, ValueError):
    """A file or a record that is not what it should be."""


class ImageError(DataError):
    """Bytes that are not a usable picture."""


class CheckpointError(KosmosError, RuntimeError):
    """Weights or a checkpoint that do not fit the model or the folder they are in."""


class MissingExtraError(KosmosError, ImportError):
    """An optional package that is not installed."""
