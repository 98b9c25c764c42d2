"""A file of measured points, from which a long measurement goes on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rnn_hf.files import read_json, write_json

Point = dict[str, Any]


class PointFile:
    """The points that a file holds, written anew as soon as one more is measured.

    Args:
        path: The file, JSON with `settings` and `points`.
        subject: Key under which a point says what was measured.
        settings: What the points of each subject that is to be measured depend on; points that were measured with
            other settings are dropped.
        order: Returns what the points are sorted by.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds something else.
    """

    def __init__(
        self,
        path: Path,
        subject: str,
        settings: Mapping[str, Mapping[str, Any]],
        order: Callable[[Point], Any],
    ) -> None:
        self.path, self.order = path, order
        try:
            before = read_json(path) if path.exists() else {"settings": {}, "points": []}
            self.settings: dict[str, Any] = {**before["settings"], **settings}
            self.points: list[Point] = [
                point
                for point in before["points"]
                if self.settings[point[subject]] == before["settings"][point[subject]]
            ]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} must hold points that were measured before, but it does not ({type(error).__name__}: "
                f"{error}). Remove it, or choose another file."
            ) from error

    def has(self, **wanted: Any) -> bool:
        """Return whether there is a point with these values."""
        return any(point.items() >= wanted.items() for point in self.points)

    def add(self, point: Point) -> None:
        """Add a point and write the file."""
        self.points.append(point)
        self.points.sort(key=self.order)
        write_json(self.path, {"settings": self.settings, "points": self.points})
