"""MicrocosmConfig: how large the world is, what it looks like and how it is talked about."""

from dataclasses import dataclass, field, fields

from kosmos.errors import ConfigError

PICTURE_PARTS = ("captions", "grounded", "vqa", "interleaved", "grounded_instruct")
NUM_COLORS = 11
NUM_KIND_SHAPES = 7
# Short nouns that are no English words, differ in their first letters and end alike in nothing
# that could hint at a colour: whatever a model knows of them it learned here.
KIND_NAMES = (
    "dax", "wug", "fep", "zorp", "blicket", "tove", "gazzer", "kiki", "modi", "toma",
    "snark", "quib", "plonk", "yash", "vinta", "lirp", "gorp", "nazo", "hulm", "teesh",
    "jaffi", "rokko", "sprill", "umba", "frim", "cheln", "drubb", "wexel", "oolo", "pagu",
    "skeff", "brango", "ziffle", "mungo", "tarv", "nelk", "squam", "ibbit", "lozzi", "korv",
    "whimb", "dweem", "glant", "huxen", "yorl", "pliff", "cazzo", "rutt",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """The words and sentence forms that vary; ``{}`` is where the content goes."""

    small: tuple[str, ...] = ("small", "small", "little")
    """Words for small objects, as often as they stand here."""
    large: tuple[str, ...] = ("large", "large", "big")
    """Words for large objects."""
    captions: tuple[str, ...] = (
        "An image of {}.",
        "An image of {}.",
        "An image of {}.",
        "{}.",
        "A picture of {}.",
        "This picture shows {}.",
        "Here we see {}.",
    )
    """Sentence around what a caption mentions."""
    ask_color: tuple[str, ...] = ("What color is {}?", "What is the color of {}?")
    """The color of one object."""
    ask_shape: tuple[str, ...] = ("What shape is {}?", "What is the shape of {}?")
    """The shape of one object."""
    ask_texture: tuple[str, ...] = ("What pattern does {} have?",)
    """The texture of one object."""
    ask_size: tuple[str, ...] = ("What size is {}?", "Is {} small or large?")
    """The size of one object."""
    ask_where: tuple[str, ...] = ("Where is {}?",)
    """The region in which an object lies."""
    ask_count: tuple[str, ...] = ("How many {} are there?", "How many {} can you see?")
    """A number of objects."""
    ask_exists: tuple[str, ...] = ("Is there {}?", "Is there {} in the picture?")
    """Whether an object is there."""
    ask_relation: tuple[str, ...] = ("Is {} {} {}?",)
    """Whether two objects stand so: first, relation, second."""
    ask_kind: tuple[str, ...] = ("What animal is {}?",)
    """The name of a kind, by its place."""
    kind_names: tuple[str, ...] = tuple(KIND_NAMES)
    """Names given to kinds, in this order."""

    def __post_init__(self) -> None:
        if len(set(self.kind_names)) != len(self.kind_names):
            raise ConfigError("wording.kind_names: expected different names, found one twice")
        for field_ in fields(self):
            if not getattr(self, field_.name):
                raise ConfigError(f"wording.{field_.name}: expected at least one, found none")


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrocosmConfig:
    """Everything a microcosm follows from; the same config makes the same bytes."""

    seed: int = 0
    """Which scenes and words are drawn."""
    world_seed: int = 0
    """Which shape, color, size and habits each kind has; the same in every dataset of a world."""
    num_scenes: int = 20_000
    """Training pictures; the shares divide them among the parts."""
    share_captions: float = 0.28
    """Part of the pictures that get a caption."""
    share_grounded: float = 0.30
    """Part that gets a caption or expressions with boxes."""
    share_vqa: float = 0.22
    """Part that is asked about."""
    share_interleaved: float = 0.14
    """Part that stands in pages of several pictures."""
    share_grounded_instruct: float = 0.06
    """Part that gets an instruction about an expression and a box."""
    texts_per_scene: float = 0.4
    """Documents of text without pictures, for each training picture."""
    instructions_per_scene: float = 0.2
    """Language-only instructions, for each training picture."""
    num_heldout: int = 256
    """Documents of every part that are measured and never trained on."""
    num_eval: int = 500
    """Examples in each evaluation set of pictures."""
    documents_per_shard: int = 1000
    """Documents in one shard file."""

    image_size: int = 64
    """Pixels along each side of a picture."""
    supersample: int = 4
    """Finer pixels drawn for each pixel of an edge."""
    max_objects: int = 3
    """Objects in a scene: one to this many, equally often."""
    small: tuple[float, float] = (0.30, 0.36)
    """Least and greatest side of a small object, as a fraction of the picture's."""
    large: tuple[float, float] = (0.46, 0.54)
    """The same for a large one."""
    medium: tuple[float, float] = (0.39, 0.43)
    """The same for kinds of middling size; other objects are small or large."""
    max_overlap: float = 0.05
    """Greatest part of an object's box that boxes of others may cover; hides at most 15% of it."""
    kind_share: float = 0.25
    """Part of the objects that are animals of a kind."""
    twin_share: float = 0.3
    """Chance that an object repeats the shape, and again the color, of an earlier one."""
    plain_share: float = 0.75
    """Part of the objects without a texture."""
    color_jitter: int = 10
    """Greatest change of brightness, of 255; of a single channel by a third of it more."""
    seen_per_color: int = 2
    """Kinds of each color whose color is in pictures only."""
    both_per_color: int = 1
    """Kinds of each color that are pictured, and whose color texts state."""
    told_per_color: int = 1
    """Kinds of each color that are never pictured; texts state their color."""
    clear_margin: float = 0.12
    """Least distance of two centers along an axis for a relation to be spoken of."""
    detail_share: float = 0.15
    """Part of the captions that answer "Describe this image in detail:"."""
    expression_share: float = 0.45
    """Part of the grounded documents that are referring expressions, and not a caption."""
    max_questions: int = 4
    """Questions asked of one training picture: one to this many."""
    max_page_images: int = 5
    """Pictures on a page: two to this many (KOSMOS-1 keeps at most 5)."""
    num_cells: int = 16
    """Cells along each side of the location grid in grounded instructions, which hold location
    tokens; equals the num_cells of the run that reads them. Boxes elsewhere are exact."""
    wording: Wording = field(default_factory=Wording)
    """Words and sentence forms."""

    def __post_init__(self) -> None:
        for name in ("num_scenes", "num_heldout", "num_eval", "documents_per_shard", "num_cells"):
            _check(self, name, getattr(self, name) > 0, "a positive number")
        # smaller pictures cannot show the shapes apart
        _check(self, "image_size", self.image_size >= 32, "at least 32 pixels")
        _check(self, "supersample", self.supersample >= 1, "at least 1")
        _check(self, "max_objects", 1 <= self.max_objects <= 6, "1 to 6")
        _check(self, "max_page_images", 2 <= self.max_page_images <= 5, "2 to 5")
        _check(self, "max_questions", self.max_questions >= 1, "at least 1")
        for name in ("small", "medium", "large"):
            low, high = getattr(self, name)
            _check(self, name, 0.1 <= low <= high <= 0.6, "0.1 <= least <= greatest <= 0.6")
        apart = self.small[1] < self.medium[0] and self.medium[1] < self.large[0]
        _check(self, "medium", apart, "sides between those of small and large")
        shares = [getattr(self, f"share_{part}") for part in PICTURE_PARTS]
        if min(shares) < 0.0 or not 0.999 <= sum(shares) <= 1.001:
            raise ConfigError(f"share_*: expected shares that sum to 1, found {shares}")
        for name in ("kind_share", "twin_share", "plain_share", "detail_share", "expression_share"):
            _check(self, name, 0.0 <= getattr(self, name) <= 1.0, "[0, 1]")
        for name in ("max_overlap", "clear_margin"):
            _check(self, name, 0.0 <= getattr(self, name) <= 1.0, "[0, 1]")
        self._check_kinds()

    def _check_kinds(self) -> None:
        per_color = (self.seen_per_color, self.both_per_color, self.told_per_color)
        if min(per_color) < 0 or sum(per_color) > NUM_KIND_SHAPES or sum(per_color[:2]) == 0:
            raise ConfigError(
                f"seen_per_color, both_per_color, told_per_color: expected a sum of at most "
                f"{NUM_KIND_SHAPES} (a kind has a shape and color of its own) and some that are "
                f"pictured, found {per_color}"
            )
        if sum(per_color) * NUM_COLORS > len(self.wording.kind_names):
            raise ConfigError(
                f"wording.kind_names: expected {sum(per_color) * NUM_COLORS} names, "
                f"found {len(self.wording.kind_names)}"
            )


def _check(config: MicrocosmConfig, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{name}: expected {expected}, found {getattr(config, name)!r}")
