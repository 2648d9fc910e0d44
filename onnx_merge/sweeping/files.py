"""Determine the shares and output files of a sweep, and check them before compression begins."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from onnx_merge.config.options import Options
from onnx_merge.errors import FidelityError, OnnxMergeError, UsageError
from onnx_merge.io.model_source import Model
from onnx_merge.io.output_paths import IN_MEMORY, Destinations
from onnx_merge.io.save import check_destination

REPORTS = ("sweep.csv", "sweep.json", "sweep.png")
MIN_DECIMALS, MAX_DECIMALS = 2, 6
"""Minimum and maximum number of decimals of a share."""


def shares(start: float, stop: float, steps: int) -> tuple[float, ...]:
    """``steps`` evenly spaced shares from ``start`` to ``stop``, rounded to the decimals that the file names show.

    Raises
    ------
    UsageError: there are no such shares.
    """
    if steps < 2:
        raise UsageError(
            f"steps must be at least 2, not {steps}: for one result, run onnx-merge IN OUT --keep {start:g}"
        )
    for name, value in (("from", start), ("to", stop)):
        if not 0 < value <= 1:  # nan is refused too
            raise UsageError(f"{name} must be above 0 and at most 1, not {value:g}; 0.6 is 60%")
    if not start < stop:
        raise UsageError(f"from must be below to, but {start:g} is not below {stop:g}")
    exact = [start + (stop - start) * i / (steps - 1) for i in range(steps)]
    for places in range(
        max(MIN_DECIMALS, *(min(_places(value), MAX_DECIMALS) for value in (start, stop))), MAX_DECIMALS + 1
    ):
        rounded = tuple(round(value, places) for value in exact)
        if len(set(rounded)) == steps and rounded[0] > 0:
            return rounded
    raise UsageError(f"{steps} steps from {start:g} to {stop:g} are too many: they differ by less than 0.000001")


@dataclass(frozen=True, eq=False)
class SweepFiles:
    """The output files in ``folder``. ``protected`` are files not to overwrite, in addition to those that ``options``
    name."""

    source: Model
    folder: Path
    keeps: Sequence[float]
    options: Options
    protected: tuple[Path, ...] = ()

    def model(self, keep: float, failure: FidelityError | None = None) -> Path:
        """The path of the model that keeps the share ``keep`` of the channels."""
        target = self._destinations(self._name(keep)).target(failure)
        assert target is not None  # a sweep always writes
        return target

    def _name(self, keep: float) -> str:
        places = max(MIN_DECIMALS, *map(_places, self.keeps))
        return f"keep-{keep:.{places}f}.onnx"

    def earlier_models(self) -> list[str]:
        """Names of models in the folder that an earlier sweep wrote, and this one does not replace."""
        own = {self.folder / self._name(keep) for keep in self.keeps}
        own |= {rejected for path in own if (rejected := self._destinations(path.name).rejected)}
        return sorted(path.name for path in self.folder.glob("keep-*.onnx") if path not in own)

    def _destinations(self, name: str) -> Destinations:
        return Destinations(self.source, self.folder / name, self.options, self.protected)

    def check(self, external: tuple[Path, ...] = ()) -> None:
        """Refuse outputs that could not be written. ``external`` are the files with the input's external data.

        Raises
        ------
        UsageError: the folder cannot be created, or see `Destinations.check`.
        """
        if self.folder.is_dir():
            for name in (*map(self._name, self.keeps), *REPORTS):
                self._destinations(name).check(external)
        elif self.folder.exists():
            raise UsageError(f"{self.folder} is a file: name a folder for the models and reports")
        else:
            path = self.source if isinstance(self.source, (str, os.PathLike)) else IN_MEMORY
            check_destination(path, self.folder)
        self._check_page(external)

    def _check_page(self, external: tuple[Path, ...]) -> None:
        """Refuse a page that could not be written, or would replace another output."""
        page = self.options.html
        if page is None:
            return
        if self.folder.is_dir() or os.path.realpath(page.parent) != os.path.realpath(self.folder):
            Destinations(self.source, None, self.options, self.protected).check(external)
        for name in (*map(self._name, self.keeps), *REPORTS):
            if os.path.realpath(page) == os.path.realpath(self.folder / name):
                raise UsageError(f"the page would replace {page}: choose another name")

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Create the folder for the block. If it was new and is empty afterwards, it is removed.

        Raises
        ------
        OnnxMergeError: the folder cannot be created.
        """
        is_new = not self.folder.is_dir()
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OnnxMergeError(f"the folder {self.folder} cannot be made: {error.strerror or error}") from error
        try:
            yield
        finally:
            if is_new:
                with contextlib.suppress(OSError):  # it is not empty
                    self.folder.rmdir()


def _places(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
