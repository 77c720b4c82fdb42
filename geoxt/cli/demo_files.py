"""Output folder of `geoxt demo`, whose files are replaced together at the end of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geoxt.assess.report_files import FILES
from geoxt.errors import OutputError
from geoxt.storage import atomic_write, remove_stale, temporary_prefix
from geoxt.writers import require_writable

OUTPUTS = ("map.tif", "map.png", "samples.png", "metrics.json", "model.ckpt", *FILES)
"""Files that a demo writes."""
_SIDECAR = "map.tif.aux.xml"
"""GDAL's sidecar file with the class names of the map."""


@contextmanager
def published_together(out: Path) -> Iterator[Path]:
    """Yield a temporary folder whose outputs are moved to `out` at the end; on failure, remove the new folders."""
    new_folders = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        for name in OUTPUTS:
            require_writable(out / name)
        remove_stale(out)
        with tempfile.TemporaryDirectory(dir=out, prefix=temporary_prefix("geoxt")) as name:
            folder = Path(name)
            try:
                yield folder
            except OutputError as error:
                raise OutputError(error.problem.replace(name, str(out)), remedy=error.remedy) from error
            for output in (*OUTPUTS, _SIDECAR):
                if (folder / output).exists():
                    with atomic_write(out / output) as temporary:
                        (folder / output).replace(temporary)
                else:
                    (out / output).unlink(missing_ok=True)
    finally:
        for folder in new_folders:
            with suppress(OSError):  # not empty: the outputs, or the generated world
                folder.rmdir()
