"""Resolve paths to files: glob patterns, and a product's files in folders, `.SAFE` trees and archives."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geoxt.errors import InputError
from geoxt.layers.archives import REMOTE, files_in, holds_files
from geoxt.layers.exclude import SomeFlags, flag_names, quality_tests
from geoxt.layers.products import FileFields, Product, Radiometry, is_scene_name, match_path, resolve_bands
from geoxt.layers.radiometry import check_baseline
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.file_version import local_file
from geoxt.template import Template
from geoxt.types import SomePaths

ProductFile = tuple[str, FileFields]
"""Path of a file of a known product, and the fields of its name."""

_SCHEMES = {
    "gcs": "gs://BUCKET/KEY", "abfs": "az://CONTAINER/KEY", "abfss": "az://CONTAINER/KEY", "s3a": "s3://BUCKET/KEY",
    "s3n": "s3://BUCKET/KEY",
}  # fmt: skip
"""Schemes of other libraries, and those of GDAL for the same stores."""


def expand_paths(paths: SomePaths, *, folders: bool = False) -> list[str]:
    """Return the files that paths and glob patterns match, sorted within each pattern.

    Parameters
    ----------
    paths
        Paths or patterns; URLs and GDAL's `/vsi…` paths are returned unchanged.
    folders
        Whether to return folders too: given folders, and matches of a pattern that have the name of a scene.

    Raises
    ------
    InputError
        If a path does not exist, or a pattern matches nothing.
    """
    patterns = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    result: list[str] = []
    for pattern in [os.fspath(path) for path in patterns]:
        inside = ":" in pattern and local_file(pattern) is not None  # a raster in a container: 'NETCDF:"a.nc":band'
        if inside or pattern.startswith(REMOTE) or Path(pattern).is_file() or (folders and Path(pattern).is_dir()):
            result.append(pattern)
            continue
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (absolute patterns too)
        matches = [m for m in matches if Path(m).is_file() or (folders and is_scene_name(m) and Path(m).is_dir())]
        if not matches:
            if Path(pattern).is_dir():
                problem = f"Cannot find any file for {pattern!r}: it is a folder."
                raise InputError(problem, remedy="Add a pattern such as '*.tif' to it.")
            remedy = "Pass an existing path or a pattern that matches."
            scheme = pattern.partition("://")[0].lower() if "://" in pattern else ""
            if scheme in _SCHEMES:
                problem = f"Cannot open {redact_url(pattern)!r}: GDAL does not read the scheme {scheme}://."
                raise InputError(problem, remedy=f"Pass {_SCHEMES[scheme]}.")
            raise InputError(f"Cannot find any file for {pattern!r}.", remedy=remedy)
        result += matches
    if not result:
        raise InputError("Cannot open a layer from an empty list of paths.", remedy="Pass at least one file.")
    return list(dict.fromkeys(result))


def customize(
    product: Product | None,
    *,
    pattern: str | Template | None,
    baseline: str | None,
    scale: float | None,
    offset: float | None,
) -> Product | None:
    """Return a product with the user's form of file names, and scale and offset of the measured bands.

    Raises
    ------
    InputError
        If the product is unknown or does not fit the pattern, a number is not finite, no scale depends on a baseline,
        or a scale is given for embeddings.
    """
    for argument, number in (("scale", scale), ("offset", offset)):
        if number is not None and (not math.isfinite(number) or (argument == "scale" and number == 0)):
            problem, remedy = (
                f"Cannot rescale by a{'n' * (argument == 'offset')} {argument} of {number!r}.",
                "Pass a finite number, and a scale other than 0.",
            )
            raise InputError(problem, remedy=remedy, value=number, argument=argument)
    if product is None:
        if pattern is not None or baseline is not None:
            argument = "baseline" if pattern is None else "pattern"
            problem = f"Cannot use a {argument} without a product."
            raise InputError(problem, remedy="Pass {product}.", argument=argument)
        return None
    if product.embedding is not None and (scale is not None or offset is not None):
        msg = f"Cannot rescale the embeddings of {product.name}: files of integers are dequantized as published."
        raise InputError(msg, remedy="Leave {scale} and {offset} out.", argument="offset" if scale is None else "scale")
    check_baseline([product], baseline)
    if pattern is not None:
        template = Template(pattern) if isinstance(pattern, str) else pattern
        if "date" in template.names and "%" not in template.form("date"):
            problem = f"Cannot read dates by the pattern {template.pattern!r}: {{date}} has no format, such as "
            problem += "{date:%Y-%m-%d}."
            remedy = "Pass {pattern} with a format of datetime.strptime. Or rename the field."
            raise InputError(problem, remedy=remedy, value=template.pattern, argument="pattern")
        product = replace(product, files=(template,), scenes=())
    if (scale is None) != (offset is None) and product.rules:
        argument, other = ("scale", "offset") if offset is None else ("offset", "scale")
        number = scale if offset is None else offset
        problem = (
            f"Cannot rescale {product.name} by {argument}={number!r} without {other}: value = stored * scale + offset."
        )
        raise InputError(problem, remedy="Pass both, such as {scale:0.0001} and {offset:-0.1}.", argument=other)
    if scale is not None or offset is not None:
        names = {name for band in product.bands for name in (band.name, band.common, *band.files) if name}
        rule = Radiometry(scale=1.0 if scale is None else scale, offset=offset or 0.0, files=tuple(sorted(names)))
        product = replace(product, rules=(rule, *product.rules), dtypes=())  # of files of any data type
    return product


def gather_files(
    paths: SomePaths, product: Product | None, *, bands: str | Sequence[str] | None, exclude: SomeFlags
) -> tuple[list[str], Product | None]:
    """Return the files to open, and their product.

    A folder or archive is replaced by the product's files in it, at any depth: of the bands to open and of the quality
    bands that `exclude` needs. If a band has files of several pixel sizes, the one of the sensor's resolution
    is used, else the finest.

    Parameters
    ----------
    paths
        Files, glob patterns, folders, archives.
    product
        By default the product whose file names match those in the folders and archives.
    bands
        Bands to open; by default the product's default bands.
    exclude
        Quality flags of excluded pixels.

    Raises
    ------
    InputError
        If a folder holds no files of the product, a band is missing, or the product is ambiguous.
    ReadError
        If an archive cannot be read.
    """
    expanded = expand_paths(paths, folders=True)
    files_by_folder = {path: list(files_in(path)) for path in expanded if holds_files(path)}
    if not files_by_folder:
        return expanded, product
    product = product or _product_of(files_by_folder)
    by_folder = {folder: _product_files(folder, files, product) for folder, files in files_by_folder.items()}
    all_files = [file for files in by_folder.values() for file in files]
    spellings = _file_band_names(all_files, product, bands, exclude, next(iter(by_folder)))
    result: list[str] = []
    for path in expanded:
        if path in by_folder:
            result += _sensor_resolution([file for file in by_folder[path] if _is_selected(file, spellings)], product)
        else:
            result.append(path)
    return list(dict.fromkeys(result)), product


def _product_of(files_by_folder: dict[str, list[str]]) -> Product:
    """Return the only product whose file names match every recognized file in some folders."""
    examples: dict[str, tuple[Product, str]] = {}
    common: set[str] | None = None
    for path in (path for files in files_by_folder.values() for path in files):
        matches = [product for product in match_path(path) if product.kind != "shapes"]
        for product in matches:
            examples.setdefault(product.name, (product, path))
        if matches:
            names = {product.name for product in matches}
            common = names if common is None else common & names
    if common is not None and len(common) == 1:
        return examples[common.pop()][0]
    where = ", ".join(map(repr, files_by_folder))
    if not examples:
        content = _summary([path for files in files_by_folder.values() for path in files])
        problem = f"Cannot find files of any known product in {where}: {content}."
        remedy = (
            "Pass {product}, and {pattern} with the form of the names. Or add '/*.tif' to the path for other files."
        )
        raise InputError(problem, remedy=remedy)
    candidates = ", ".join(f"{name} ({path!r})" for name, (_, path) in examples.items())
    problem = f"Cannot choose one product for {where}: its files may be of {candidates}."
    raise InputError(problem, remedy="Pass {product} with one of the names.", argument="product")


def _product_files(folder: str, files: list[str], product: Product) -> list[ProductFile]:
    """Return the files of a product among those of a folder or archive."""
    parsed = ((path, product.identify(path)) for path in files)
    matches = [(path, fields) for path, fields in parsed if fields is not None]
    if not matches:
        patterns = product.patterns if product.scenes else [template.pattern for template in product.files]
        forms = " or ".join(map(repr, patterns)) or "an unknown form"
        content = _summary(files, folder)
        problem = f"Cannot find files of {product.name} in {folder!r}: no name has the form {forms}; {content}."
        remedy = "Pass {pattern} with the form of the names. Or pass another {product}."
        raise InputError(problem, remedy=remedy)
    return matches


def _summary(files: list[str], folder: str | None = None) -> str:
    if not files:
        return "it holds no file"
    inside = [path.split(f"{folder}/", 1)[-1] if folder else path.rsplit("/", 1)[-1] for path in files[:3]]
    examples = ", ".join(map(repr, inside))
    return f"it holds {len(files)} files: {examples}{', …' if len(files) > 3 else ''}"


def _file_band_names(
    files: Sequence[ProductFile], product: Product, bands: str | Sequence[str] | None, exclude: SomeFlags, folder: str
) -> dict[str, tuple[str, ...]]:
    """Return the names in file names that each band to open may have; an empty tuple stands for any."""
    present = dict.fromkeys(fields.band for _, fields in files)
    spellings: dict[str, tuple[str, ...]]
    if bands is not None:
        requested = resolve_bands(product, bands)
        spellings = {band.name: band.files for band in requested}
        missing = [] if None in present else [band.name for band in requested if band.name not in present]
        if missing:
            problem = f"Cannot find the bands {missing} in {folder!r}: its files have {sorted(map(str, present))}."
            raise InputError(problem, remedy="Pass {bands} from these.", argument="bands")
    else:
        default = [band.name for band in resolve_bands(product)] if product.bands else []
        measured = [band.name for band in product.bands]
        choices = ([name for name in names if name in present] for names in (default, measured, present))
        spellings = {str(name): () for name in next((names for names in choices if names), ())}
    if flag_names(exclude):
        tests = quality_tests(product, exclude, scene=files[0][1].scene)
        spellings |= {band: () for band in tests if band not in spellings}
    return spellings


def _is_selected(file: ProductFile, spellings: dict[str, tuple[str, ...]]) -> bool:
    band, name = file[1].band, file[1].file
    return band is None or (band in spellings and (not spellings[band] or name in spellings[band]))


def _sensor_resolution(files: Sequence[ProductFile], product: Product) -> list[str]:
    """Return one file per band and scene: of several pixel sizes the sensor's, else the finest."""
    resolutions = {band.name: band.resolution for band in (*product.bands, *product.extras)}
    by_size: dict[tuple[str, str | None], dict[int, str]] = {}
    result: list[str] = []
    for path, fields in files:
        size = re.fullmatch(r"(\d+)m", str(fields.fields.get("resolution", "")))
        if size is None or fields.band is None:
            result.append(path)
        else:
            by_size.setdefault((fields.scene, fields.band), {}).setdefault(int(size[1]), path)
    for (_, band), paths in by_size.items():
        resolution = resolutions.get(str(band))
        result.append(paths[int(resolution)] if resolution in paths else paths[min(paths)])
    return result
