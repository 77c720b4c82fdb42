"""Scenes of a known product, from the names of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoxt.errors import InputError
from geoxt.layers.assemble import LayerMetadata, representable
from geoxt.layers.exclude import SomeFlags, flag_names, quality_of, quality_tests
from geoxt.layers.files.alpha import alpha_as_data
from geoxt.layers.files.sidecars import Sidecars
from geoxt.layers.products import FileFields, Product, Radiometry
from geoxt.layers.radiometry import is_scale_unknown, product_radiometry, usable_baseline
from geoxt.layers.time import to_datetime64
from geoxt.pixels.reader import Header
from geoxt.source import Asset, Scene
from geoxt.source.embedding_attrs import common_embedding_attrs


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file of a known product."""

    fields: FileFields
    """Fields of its name."""
    bands: dict[str, tuple[Asset, str]]
    """Asset and unit of physical values by band name."""


def product_scenes(
    headers: Sequence[Header],
    product: Product,
    *,
    categorical: bool | None = None,
    exclude: SomeFlags = (),
    rescale: bool = False,
    hide_quality: bool = True,
    baseline: str | None = None,
) -> tuple[list[Scene], LayerMetadata]:
    """Build the scenes of a known product from the names of its files.

    Parameters
    ----------
    headers
        Headers, including those of the quality bands that `exclude` needs.
    product
        The product.
    categorical
        `False` to treat class codes as measurements.
    exclude
        Quality flags of excluded pixels.
    rescale
        Whether scale and offset are required.
    hide_quality
        Whether the quality bands that `exclude` needs are left out of the layer.
    baseline
        Processing baseline of files whose names have none.

    Raises
    ------
    InputError
        If a name has another form, scenes differ in bands, or a quality band or scale is missing.
    """
    assets: dict[str, dict[str, Asset]] = {}
    first_fields: dict[str, FileFields] = {}
    all_fields: list[FileFields] = []
    units: dict[str, str] = {}
    sidecars = Sidecars(product)
    for header in headers:
        file = _parse(header, product, sidecars, rescale=rescale, baseline=baseline)
        scene = file.fields.scene
        _add(assets.setdefault(scene, {}), file, scene, header.href)
        units |= {band: unit for band, (_, unit) in file.bands.items()}
        first_fields.setdefault(scene, file.fields)
        all_fields.append(file.fields)
    _require_one_level(all_fields)
    present = {band for of_scene in assets.values() for band in of_scene}
    hidden = set(quality_tests(product, exclude, scene=next(iter(assets)))) if exclude and hide_quality else set()
    bands = [band.name for band in (*product.bands, *product.extras) if band.name in present - hidden]
    scenes = [_scene(first_fields[scene], of_scene, bands, product, exclude) for scene, of_scene in assets.items()]
    metadata = product_metadata(bands, product, units, categorical=categorical)
    stated = {repr(header.href): product.tagged_embedding(header.tags) for header in headers}
    return scenes, replace(metadata, attrs={**metadata.attrs, **common_embedding_attrs(stated)})


def _require_one_level(files: Sequence[FileFields]) -> None:
    """Raise if a band has two names in file names: those of Level 1 and Level 2, which differ in physical quantity."""
    first_by_band: dict[str, FileFields] = {}
    for fields in files:
        first = first_by_band.setdefault(fields.band, fields) if fields.band is not None else fields
        if fields.file != first.file:
            problem = f"Cannot make one layer: band {fields.band!r} is {first.file} in scene {first.scene!r}, and "
            problem += f"{fields.file} in scene {fields.scene!r}, which are different products."
            remedy = f"Pass files of one of them. Of folders, pass {{bands:[{fields.file!r}, …]}}."
            raise InputError(problem, remedy=remedy)


def _add(assets: dict[str, Asset], file: _File, scene: str, href: str) -> None:
    for band, (asset, _) in file.bands.items():
        if band in assets:
            problem = f"Cannot use {href!r}: scene {scene!r} already has band {band!r} from {assets[band].href!r}."
            remedy = "Leave one of the two out. Or pass {pattern} with a field in which their paths differ."
            raise InputError(problem, remedy=remedy)
        assets[band] = asset


def _scene(
    fields: FileFields, assets: dict[str, Asset], bands: list[str], product: Product, exclude: SomeFlags
) -> Scene:
    missing = [band for band in bands if band not in assets]
    if missing:
        problem = f"Cannot make one layer: scene {fields.scene!r} lacks the bands {missing} that others have."
        raise InputError(problem, remedy="Pass files of the same bands for every scene.")

    def quality_asset(band: str) -> Asset:
        if band not in assets:
            flags = ", ".join(flag_names(exclude))
            problem = f"Cannot exclude {flags} in scene {fields.scene!r}: no file of its quality band {band} is given."
            remedy = "Add its file to the paths. Or pass {exclude}, a layer or file of a mask, or leave it out."
            raise InputError(problem, remedy=remedy, argument="exclude")
        return assets[band]

    return Scene(
        id=fields.scene,
        assets=tuple(assets[band] for band in bands),
        start=to_datetime64(fields.start),
        end=to_datetime64(fields.end),
        quality=quality_of(product, exclude, fields.scene, quality_asset),
    )


def _parse(header: Header, product: Product, sidecars: Sidecars, *, rescale: bool, baseline: str | None) -> _File:
    """Return the fields of a file's name, and the assets of its bands."""
    fields = product.identify(header.href)
    if fields is None:
        problem = f"Cannot take {header.href!r} as {product.name}: its name is not of the form {product.patterns[0]}."
        remedy = "Leave the file out, or open it without {product}. Or pass {pattern} with the form of its name."
        raise InputError(problem, remedy=remedy)
    if fields.band is None:
        file_bands = [band for band in product.bands if band.index <= len(header.dtypes)]
    else:
        file_bands = [band for band in (*product.bands, *product.extras) if band.name == fields.band]
    if not file_bands:
        problem = f"Cannot take {header.href!r} as {product.name}: the product has no band {fields.file!r}."
        raise InputError(
            problem,
            remedy="Pass {pattern} whose field {{band}} matches the full name of a band. Or leave the file out.",
        )
    if any(header.alpha[band.index - 1] for band in file_bands):
        header = alpha_as_data(header)
    of_name = str(fields.fields["baseline"]) if "baseline" in fields.fields else None
    baseline = usable_baseline(of_name, baseline)
    of_scene = sidecars.of(header.href, fields.scene, fields.file)
    bands = {}
    for band in file_bands:
        strict = rescale and not has_scale(header, band.index)
        rule = product_radiometry(
            product, band, fields.file, dtype=header.dtypes[band.index - 1], baseline=baseline, strict=strict,
            of_scene=of_scene, scene=fields.scene,
        )  # fmt: skip
        name = fields.file or band.name
        ambiguous = rule is None and len(band.files) > 1 and name not in band.files
        if ambiguous and strict:
            problem = f"Cannot rescale {header.href!r}: {name!r} may mean {' or '.join(band.files)} of {product.name}."
            remedy = "Pass {scale} and {offset}. Or rename the files to one of the names."
            raise InputError(problem, remedy=remedy, argument="rescale")
        asset = asset_of(header, band.index, band.nodata, rule)
        unstated = rule is None and not has_scale(header, band.index)
        depends = ambiguous or is_scale_unknown(product, name, dtype=asset.dtype, baseline=baseline)
        quantization = product.quantization(asset.dtype)
        asset = replace(
            asset, extra_nodata=product.ignore, quantization=quantization, scale_unknown=unstated and depends
        )
        bands[band.name] = asset, rule.unit if rule else "1"
    return _File(fields=fields, bands=bands)


def product_metadata(
    bands: Sequence[str], product: Product, units: Mapping[str, str], *, categorical: bool | None = None
) -> LayerMetadata:
    """Return the metadata of a layer of a known product."""
    by_name = {band.name: band for band in (*product.bands, *product.extras)}
    known_bands = [by_name.get(name) for name in bands]
    coords = {
        "common_name": tuple((band.common or "") if band else "" for band in known_bands),
        "wavelength": tuple(b.wavelength if b and b.wavelength is not None else np.nan for b in known_bands),
    }
    band_units = tuple(units.get(name, "1") for name in bands)
    metadata = LayerMetadata(
        bands=tuple(bands), attrs=product.attrs, coords=coords, units=band_units, unit_length=product.unit_length
    )
    return with_classes(metadata, product, categorical=categorical)


def with_classes(metadata: LayerMetadata, product: Product, *, categorical: bool | None) -> LayerMetadata:
    """Return metadata with the classes of a label product, or of a quality band that is opened alone."""
    qa = next((qa for qa in product.qa if metadata.bands == (qa.band,)), None)
    legend = product.legend or (qa.legend if qa is not None else None)
    if categorical is False or (legend is None and qa is None):
        return replace(metadata, legend=None, categorical=False)
    return replace(metadata, legend=legend, categorical=True)


def asset_of(header: Header, band: int, nodata: float | None = None, rule: Radiometry | None = None) -> Asset:
    """Return the asset of a band of a file; nodata, scale and offset in the header take precedence."""
    dtype = header.dtypes[band - 1]
    from_header = rule is None or has_scale(header, band)
    stored = header.nodata[band - 1]
    return Asset(
        href=header.href,
        band=band,
        grid=header.grid,
        dtype=dtype,
        nodata=representable(nodata if stored is None else stored, dtype),
        masked=header.masked[band - 1],
        scale=header.scales[band - 1] if from_header or rule is None else rule.scale,
        offset=header.offsets[band - 1] if from_header or rule is None else rule.offset,
        header=(stored, header.scales[band - 1], header.offsets[band - 1], header.internal_mask),
    )


def has_scale(header: Header, band: int) -> bool:
    """Return whether a header states a scale or an offset."""
    return (header.scales[band - 1], header.offsets[band - 1]) != (1.0, 0.0)
