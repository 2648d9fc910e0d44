"""Check output paths before compression begins: none may be an input, and no two may be the same file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_merge.config.options import Options
from onnx_merge.errors import FidelityError, UsageError
from onnx_merge.io.save import PathLike, check_destination

if TYPE_CHECKING:
    import onnx

IN_MEMORY = Path(os.devnull, "model.onnx")
"""Stands for the path of a model in memory; no file can exist there."""


@dataclass(frozen=True, eq=False)
class Destinations:
    """The output paths of the model and the report. ``protected`` are files not to overwrite, in addition to those that
    the options name."""

    model: PathLike | onnx.ModelProto
    output: PathLike | None
    options: Options
    protected: tuple[Path, ...] = ()

    @property
    def rejected(self) -> Path | None:
        """The path of the model if it misses the gate."""
        return None if self.output is None else Path(self.output).with_name(f"{Path(self.output).stem}.rejected.onnx")

    def target(self, failure: FidelityError | None) -> Path | None:
        """The path to write the model to; None if it is not to be written.

        Raises
        ------
        UsageError: another program made a file there during the run.
        """
        if self.output is None or self.options.dry_run:
            return None
        if failure:
            return self.rejected
        if not self.options.force and os.path.lexists(os.path.realpath(self.output)):
            raise UsageError(f"{self.output} was made during this run: choose another name, or replace it with --force")
        return Path(self.output)

    def check(self, external: tuple[Path, ...] = ()) -> None:
        """Refuse outputs that could not be written. ``external`` are the files with the input's external data.

        Raises
        ------
        UsageError: see `onnx_merge.io.save.check_destination`; or two outputs are the same file.
        """
        options = self.options
        source = self.model if isinstance(self.model, (str, os.PathLike)) else IN_MEMORY
        files = (*options.fixed_files, *map(Path, options.custom_ops))
        named = (options.plan, options.labels, options.calib_file, options.metric_file, *files)
        inputs = [*external, *self.protected, *(path for path in named if path)]
        written: list[Path] = []
        if self.output is not None:
            check_destination(source, self.output, options.force, inputs)
            written.append(Path(self.output))
        if self.rejected is not None and options.has_gate:
            # Replaced without --force: it is usually left from an earlier run, and can be made again.
            check_destination(source, self.rejected, True, inputs)
            written.append(self.rejected)
        for what, path in (("report", options.report), ("plan", options.save_plan), ("page", options.html)):
            if path is None:
                continue
            if any(os.path.realpath(path) == os.path.realpath(other) for other in written):
                raise UsageError(f"the {what} would replace another output, {path}: choose another name")
            check_destination(source, path, options.force, inputs)
            written.append(path)
