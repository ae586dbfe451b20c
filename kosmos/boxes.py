"""Box: the only way a region of an image is written in this package.

Corners are fractions of the image, origin top left. Pixels and (x, y, w, h) exist only at the
edges: in dataset readers and in drawing.
"""

from dataclasses import dataclass

from kosmos.errors import DataError


@dataclass(frozen=True, slots=True)
class Box:
    """Corners of a region as fractions of the image: (0, 0) is top left, (1, 1) bottom right.

    A box may reach outside the image (detectors say so; :meth:`clipped` cuts it) or have its
    corners in the wrong order (models say so). :meth:`checked` refuses both.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def from_pixels(
        cls, x0: float, y0: float, x1: float, y1: float, *, width: int, height: int
    ) -> "Box":
        """Make a box from corners in pixels of an image of the given size."""
        return cls(x0 / width, y0 / height, x1 / width, y1 / height)

    def to_pixels(self, *, width: int, height: int) -> tuple[float, float, float, float]:
        """Corners in pixels of an image of the given size."""
        return self.x0 * width, self.y0 * height, self.x1 * width, self.y1 * height

    @property
    def area(self) -> float:
        """Area as a fraction of the image; zero for a box whose corners are in the wrong order."""
        return max(0.0, self.x1 - self.x0) * max(0.0, self.y1 - self.y0)

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def intersection(self, other: "Box") -> "Box":
        """The common part; its area is zero when there is none."""
        return Box(
            max(self.x0, other.x0),
            max(self.y0, other.y0),
            min(self.x1, other.x1),
            min(self.y1, other.y1),
        )

    def iou(self, other: "Box") -> float:
        """Intersection over union, 0 to 1; zero when either box is empty."""
        common = self.intersection(other).area
        union = self.area + other.area - common
        return common / union if union > 0.0 else 0.0

    def clipped(self) -> "Box":
        """The part inside the image."""
        return self.intersection(Box(0.0, 0.0, 1.0, 1.0))

    def checked(self, where: str) -> "Box":
        """Return the box if it is finite, ordered and inside the image.

        Args:
            where: What the box belongs to, for the message.

        Raises:
            DataError: If a corner is not finite, lies outside [0, 1], or the box is empty.
        """
        corners = (self.x0, self.y0, self.x1, self.y1)
        # written so that NaN fails: every comparison with it is false
        if not all(0.0 <= corner <= 1.0 for corner in corners):
            raise DataError(
                f"{where}: expected box corners as fractions in [0, 1], found {corners}",
                hint="boxes in pixels are made with Box.from_pixels; Box.clipped cuts overhang",
            )
        if not (self.x0 < self.x1 and self.y0 < self.y1):
            raise DataError(f"{where}: expected x0 < x1 and y0 < y1, found {corners}")
        return self
