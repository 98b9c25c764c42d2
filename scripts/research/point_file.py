"""A file of measured points, with which a long measurement can be interrupted and resumed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rnn_hf.files import read_json, write_json

Point = dict[str, Any]


class PointFile:
    """The points in a file, which is written after each new point.

    Args:
        path: The file, JSON with `settings` and `points`.
        subject: Key of a point that says what was measured.
        settings: Settings of each subject to be measured; points that were measured with other settings are dropped.
        order: Sort key of a point.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it has another form.
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
                f"{str(path)!r} must be a file of measured points, but it cannot be read as one "
                f"({type(error).__name__}: {error}). Remove it, or choose another file."
            ) from error

    def has(self, **wanted: Any) -> bool:
        """Return whether a point has these values."""
        return any(point.items() >= wanted.items() for point in self.points)

    def add(self, point: Point) -> None:
        """Add a point and write the file."""
        self.points.append(point)
        self.points.sort(key=self.order)
        write_json(self.path, {"settings": self.settings, "points": self.points})
