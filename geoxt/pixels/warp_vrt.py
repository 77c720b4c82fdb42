"""Text of GDAL's virtual raster (VRT) that warps a window of one grid to a window of another.

GDAL's transformer maps pixels of the whole source grid to pixels of the whole target grid by one PROJ pipeline: affine
transform, coordinate operation, inverse affine transform. Only integers, the corners of the two windows, are added
outside of it, so that a pixel has the same coordinates, to the last bit, in every window. `WarpedVRT` and `reproject`
of rasterio would put the corner of the window into the affine transform, and choose an operation for each point.
"""

from __future__ import annotations

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.dtypes import dtype_rev, typename_fwd

from geoxt.crs import crs_name, has_several_operations, transformer_to
from geoxt.errors import InputError
from geoxt.grid import SAME
from geoxt.windows import Window

_OPPOSITE = {"omit_fwd": "omit_inv", "omit_inv": "omit_fwd"}
_DEGREES = "step proj=unitconvert xy_in={} xy_out={}"


def warp_vrt(
    path: str,
    count: int,
    dtype: str,
    *,
    windows: tuple[Window, Window],
    pipeline: str,
    algorithm: str,
    scale: tuple[float, float],
) -> str:
    """Return the text of a VRT with the warped bands of a file and an alpha band.

    Parameters
    ----------
    path
        File with the pixels of the source window.
    count, dtype
        Number of its bands, and their data type.
    windows
        Window of the source grid, and window of the target grid.
    pipeline
        PROJ pipeline from pixels of the source grid to pixels of the target grid.
    algorithm
        Name of GDAL's resampling algorithm.
    scale
        Source pixels per target pixel along y and x.
    """
    target = windows[1]
    band = '<VRTRasterBand dataType="{}" band="{}" subClass="VRTWarpedRasterBand">{}</VRTRasterBand>'
    kind, alpha = typename_fwd[dtype_rev[dtype]], count + 1
    bands = [band.format(kind, n, "") for n in range(1, alpha)]
    bands.append(band.format(kind, alpha, "<ColorInterp>Alpha</ColorInterp>"))
    pairs = "".join(f'<BandMapping src="{n}" dst="{n}"/>' for n in range(1, alpha))
    corners = [f"{w.col},1,0,{w.row},0,1" for w in windows]
    inverses = [f"{-w.col},1,0,{-w.row},0,1" for w in windows]
    # The two CRSs stand for pixels of the grids: GDAL requires two, with x before y, and uses the pipeline only.
    return f"""<VRTDataset rasterXSize="{target.width}" rasterYSize="{target.height}" subClass="VRTWarpedDataset">
<GeoTransform>1,1,0,1,0,-1</GeoTransform>{"".join(bands)}
<BlockXSize>{target.width}</BlockXSize><BlockYSize>{target.height}</BlockYSize>
<GDALWarpOptions><ResampleAlg>{algorithm}</ResampleAlg>
<Option name="XSCALE">{1 / scale[1]}</Option><Option name="YSCALE">{1 / scale[0]}</Option>
<Option name="INIT_DEST">0</Option><SourceDataset relativeToVRT="0">{path}</SourceDataset>
<Transformer><GenImgProjTransformer>
<SrcGeoTransform>{corners[0]}</SrcGeoTransform><SrcInvGeoTransform>{inverses[0]}</SrcInvGeoTransform>
<ReprojectTransformer><ReprojectionTransformer><SourceSRS>EPSG:3395</SourceSRS><TargetSRS>EPSG:3857</TargetSRS>
<Options><Option key="COORDINATE_OPERATION">{pipeline}</Option></Options>
</ReprojectionTransformer></ReprojectTransformer>
<DstGeoTransform>{corners[1]}</DstGeoTransform><DstInvGeoTransform>{inverses[1]}</DstInvGeoTransform>
</GenImgProjTransformer></Transformer>
<BandList>{pairs}</BandList><DstAlphaBand>{alpha}</DstAlphaBand></GDALWarpOptions></VRTDataset>"""


def pixel_pipeline(source: GeoBox, target: GeoBox, resampling: str) -> str:
    """Return the PROJ pipeline from pixel coordinates of one grid to those of another.

    Raises
    ------
    InputError
        If PROJ chooses one of several operations for each point, and none applies at the source's center.
    """
    if source.crs == target.crs:
        return f"proj=pipeline {_inverse(_affine_step(_target_to_source(source, target)))}"
    operation = transformer_to(source, target.crs)
    if has_several_operations(operation):
        problem = (
            f"Cannot resample by {resampling!r} from {crs_name(source.crs)} to {crs_name(target.crs)}: PROJ knows "
            "several operations between their datums, and none at the center of the source."
        )
        remedy = "Pass {resampling:'bilinear'}, or a target grid in a CRS of the source's datum."
        raise InputError(problem, remedy=remedy, argument="resampling", value=resampling)
    steps = [_affine_step(source.affine), *_wrap_steps(source), _inverse(operation.definition)]
    return " ".join(["proj=pipeline", *steps, _inverse(_affine_step(target.affine))])


def _target_to_source(source: GeoBox, target: GeoBox) -> Affine:
    """Return the affine transform between pixels of grids of one CRS; of integers if the pixels nest.

    Rounding errors at the edge of a target pixel would include another row of source pixels.
    """
    exact = ~source.affine @ target.affine
    nested = Affine(*(float(round(n)) for n in exact[:6]))
    rows, cols = target.shape
    corners = np.array([(0, 0), (cols, 0), (0, rows)]).T
    return nested if np.abs(np.subtract(exact @ corners, nested @ corners)).max() < SAME else exact


def _affine_step(affine: Affine) -> str:
    a, b, c, d, e, f = (repr(float(n)) for n in affine[:6])
    return f"step proj=affine xoff={c} yoff={f} s11={a} s12={b} s21={d} s22={e}"


def _wrap_steps(source: GeoBox) -> list[str]:
    """Return the steps whose inverse moves longitudes by 360 degrees, to those of a source across the antimeridian."""
    if source.crs is None or not source.crs.geographic:
        return []
    (rows, cols), affine = source.shape, source.affine
    longitudes = [(affine @ corner)[0] for corner in ((0, 0), (cols, 0), (0, rows), (cols, rows))]
    in_degrees = source.crs.proj.axis_info[0].unit_name.lower().startswith("degree")
    if not in_degrees or (min(longitudes) >= -180 and max(longitudes) <= 180):
        return []
    center = float((affine @ (cols / 2, rows / 2))[0])
    return [_DEGREES.format("deg", "rad"), f"step inv proj=longlat lon_wrap={center!r}", _DEGREES.format("rad", "deg")]


def _inverse(definition: str) -> str:
    """Return the steps of the inverse of an operation: its steps in reverse, each inverted."""
    steps = []
    for step in reversed(definition.removeprefix("proj=pipeline ").removeprefix("step ").split(" step ")):
        words = [_OPPOSITE.get(word, word) for word in step.split()]
        steps += ["step", *words[1:]] if words[0] == "inv" else ["step", "inv", *words]
    return " ".join(steps)
