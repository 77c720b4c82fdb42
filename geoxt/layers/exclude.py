"""Quality flags to exclude ("clouds"): the quality bands that hold them, and their bit tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from geoxt.errors import InputError
from geoxt.layers.products import Product, Qa, find_qa, qa_tests
from geoxt.source import Asset, QualityBand

SomeFlags = str | Sequence[str]
"""Names of quality flags: "clouds", or ("clouds", "shadows")."""


def flag_names(flags: SomeFlags | None) -> tuple[str, ...]:
    """Return quality flags as a tuple of names."""
    return (flags,) if isinstance(flags, str) else tuple(flags or ())


def quality_tests(
    product: Product | None, flags: SomeFlags, *, scene: str
) -> dict[str, tuple[tuple[int, int, int], ...]]:
    """Return the bit tests of excluded pixels by quality band; see `qa_tests`.

    The first band that has all flags is used; else the first band of each flag.

    Raises
    ------
    InputError
        If the product is unknown, or no band of it has a flag.
    """
    names = flag_names(flags)
    if product is None:
        problem = f"Cannot exclude {', '.join(names)} in scene {scene!r}: the meaning of its quality bands is unknown."
        raise InputError(problem, remedy="Pass {product}. Or leave {exclude} out.", value=flags, argument="exclude")
    with_all = _first_with_all(product.qa, names)
    by_band: dict[str, tuple[Qa, list[str]]] = {}
    for name in names:
        qa = with_all or find_qa(product.qa, name, product=product.name)
        by_band.setdefault(qa.band, (qa, []))[1].append(name)
    return {band: qa_tests(qa, band_names) for band, (qa, band_names) in by_band.items()}


def quality_of(
    product: Product | None, flags: SomeFlags | None, scene: str, asset_of: Callable[[str], Asset]
) -> tuple[QualityBand, ...]:
    """Return the quality bands of a scene; `asset_of` returns the asset of a band by name."""
    if not flag_names(flags):
        return ()
    tests = quality_tests(product, flags or (), scene=scene)
    return tuple(QualityBand(asset=asset_of(band), excluded=out) for band, out in tests.items())


def _first_with_all(bands: Sequence[Qa], flags: Sequence[str]) -> Qa | None:
    try:
        return find_qa(bands, flags)
    except InputError:
        return None
