"""What is known of a kind of layer before any of it is opened: bands, file names, catalogs, radiometry, classes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal

from geoxt.layers.products.qa import Qa
from geoxt.layers.products.scale_offset import Radiometry, choose
from geoxt.legend import Legend
from geoxt.template import Fields, Interval, Template, Value
from geoxt.types import SomePath

Access = Literal["planetary-computer", "requester-pays"]
"""How files are got at: with a token of the Planetary Computer, or on S3 at the reader's cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band of a sensor or of a label product."""

    name: str
    """The sensor's own name for it."""
    common: str | None = None
    """Common name of the STAC EO extension (the red edge bands numbered); `None` where there is none."""
    wavelength: float | None = None
    """Centre, in micrometres; for radar the wavelength in free space."""
    limits: tuple[float, float] | None = None
    """Shortest and longest wavelength, in micrometres."""
    resolution: float | None = None
    """Size on the ground that the sensor resolves, in metres; files may be finer."""
    files: tuple[str, ...] = ()
    """How file names spell it, the most processed product first."""
    assets: tuple[str, ...] = ()
    """Keys of its asset in the catalogs."""
    index: int = 1
    """Its place within the file or asset, from 1."""
    nodata: float | None = None
    """Number of pixels without data, where it differs from the layer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A STAC collection that serves a layer."""

    id: str
    """Its id; two catalogs may use the same."""
    catalog: str
    """Name of the catalog."""
    url: str
    """Address of the catalog's STAC API."""
    files: tuple[str, ...] = ("*",)
    """Bands that it serves, as file names spell them; shell patterns."""
    access: Access | None = None
    """What reading its files takes; `None` where nothing is known to be needed."""
    nodata: float | None = None
    """Number of pixels without data, where it differs from the layer's."""
    harmonised: str | None = None
    """Item property that, where true, says that the pixels already contain the offset."""

    def file(self, band: Band) -> str | None:
        """Return how the file that it serves spells a band, or `None` where it does not serve the band."""
        fits = (file for file in band.files if any(fnmatchcase(file, pattern) for pattern in self.files))
        return next(fits, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A file that comes with a scene's bands and says how their numbers are scaled."""

    form: Literal["landsat-mtl", "sentinel2-mtd"]
    """What it is written in."""
    names: tuple[str, ...]
    """What it may be called, the best first; `{scene}` stands for the scene."""
    within: str | None = None
    """Ending of the folder in which it lies, above the bands; `None` where it lies beside them."""
    files: tuple[str, ...] = ("*",)
    """Bands of which it speaks, as file names spell them; shell patterns."""

    def covers(self, file: str | None) -> bool:
        """Tell whether it speaks of a band."""
        return file is not None and any(fnmatchcase(file, pattern) for pattern in self.files)

    def folder(self, href: str) -> str | None:
        """Return the folder in which it lies, from the path of a band; `None` where the path has no such folder."""
        above = href.replace("\\", "/").rpartition("/")[0]
        if self.within is None:
            return above or "."
        start, ending, _ = above.rpartition(self.within + "/")
        return start + ending[:-1] if ending else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFields:
    """What a file's name says."""

    scene: str
    """The scene that the file is of: files of one scene have it in common, whatever their band."""
    band: str | None
    """Name of its band, as the layer has it; `None` where the file holds all bands."""
    file: str | None
    """The band as the file's name spells it."""
    start: datetime | None
    """First moment that it covers (UTC); `None` where nothing tells."""
    end: datetime | None
    """Last moment, included."""
    fields: Fields
    """All that the name says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A known kind of data: its bands, file names, catalogs, radiometry and classes."""

    name: str
    """Value of `product=`."""
    title: str
    """What people call it."""
    kind: Literal["image", "labels", "shapes"]
    """Continuous pixels, pixels of class codes, or polygons."""
    bands: tuple[Band, ...] = ()
    """The measured bands, by wavelength or as stored; for labels the one band of codes."""
    extras: tuple[Band, ...] = ()
    """What else comes with a scene: quality, masks, auxiliary measurements."""
    default_bands: tuple[str, ...] = ()
    """Bands that are opened when none are asked for; all of `bands` where empty."""
    rgb: tuple[str, ...] = ()
    """Bands to show as red, green and blue."""
    files: tuple[Template, ...] = ()
    """Names of files: `band` is the band, `date` the time, all else but `resolution` tells the scene."""
    scenes: tuple[Template, ...] = ()
    """Names of folders and archives that hold one scene."""
    period: Interval | None = None
    """Time of files whose name has no date."""
    crs: str | None = None
    """The coordinate reference system, where all files share one."""
    resolution: float | None = None
    """Pixel size of the files, in metres, where it is one."""
    nodata: float | None = None
    """Number of pixels without data."""
    ignore: tuple[int, ...] = ()
    """Codes that are no class to learn; for labels."""
    dtypes: tuple[tuple[str, str], ...] = ()
    """Data types: (shell pattern of bands as file names spell them, or else of their names; type), the first holds."""
    rules: tuple[Radiometry, ...] = ()
    """Scales and offsets; the first that fits a band holds."""
    sidecar: Sidecar | None = None
    """Which file says them of each scene; where it is there, it holds before the rules."""
    legend: Legend | None = None
    """The classes of labels and shapes."""
    qa: tuple[Qa, ...] = ()
    """Quality bands, the most telling first."""
    collections: tuple[Collection, ...] = ()
    """STAC collections that serve it."""
    platforms: tuple[str, ...] = ()
    """STAC `platform`, lower case with hyphens; empty for any."""
    instruments: tuple[str, ...] = ()
    """STAC `instruments`, lower case; empty for any."""
    mission: tuple[str, str | None] | None = None
    """First and last day of acquisitions; `None` as last while it goes on."""
    licence: str | None = None
    """SPDX id or name of the licence."""
    cite: str | None = None
    """DOI or URL to cite."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names of files, as one writes templates."""
        return tuple(template.pattern for template in self.files)

    def identify(self, path: SomePath) -> FileFields | None:
        """Return what the name of a file says, from its path or URL; `None` for a name of another kind."""
        plain = str(path).split("?", 1)[0]
        for template in self.files:
            fields = template.match(plain, tail=True)
            if fields is not None:
                start, end = template.interval(fields) or self.period or (None, None)
                file = str(fields["band"]) if "band" in fields else None
                return FileFields(
                    scene=self._scene(fields), band=self._band(file), file=file, start=start, end=end, fields=fields
                )
        return None

    def _scene(self, fields: Fields) -> str:
        """Return the product's own id where the file's name holds all of it, else what it holds."""
        for template in self.scenes:
            if set(template.names) <= set(fields):
                return template.fill({name: fields[name] for name in template.names})
        return "_".join(_text(value) for name, value in fields.items() if name not in {"band", "resolution"}) or "all"

    def _band(self, file: str | None) -> str | None:
        known = (band.name for band in (*self.bands, *self.extras) if file in band.files)
        return next(known, file)

    def radiometry(self, file: str, *, baseline: str | None = None) -> Radiometry | None:
        """Return scale and offset of a band as file names spell it; see `radiometry.choose`."""
        return choose(self.rules, file, baseline=baseline, product=self.name)

    def dtype(self, file: str) -> str | None:
        """Return the data type of a band as file names spell it, or `None` where it is not known."""
        return next((dtype for pattern, dtype in self.dtypes if fnmatchcase(file, pattern)), None)

    def collection(self, name: str) -> Collection | None:
        """Return the first collection of that id, or `None` where no known catalog serves the layer under it."""
        return next((collection for collection in self.collections if collection.id == name), None)


def _text(value: Value) -> str:
    return value.strftime("%Y%m%dT%H%M%S") if isinstance(value, datetime) else str(value)
