"""QualityBand: from the names of what shall be taken out to the quality bands of each scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from geoxt.errors import InputError
from geoxt.layers.products import Product, Qa, find_qa, qa_tests
from geoxt.source import Asset, QualityBand

SomeFlags = str | Sequence[str]
"""What to take out, by name: "clouds", or ["clouds", "shadows"]."""


def wanted(facts: Product | None, what: SomeFlags, *, scene: str) -> dict[str, tuple[tuple[int, int, int], ...]]:
    """Return what each quality band of a layer takes out, by the band's name.

    One band that tells all is taken; else several, each the first that tells a name.

    Raises
    ------
    InputError
        Where the layer is not known, or none of its bands tells a name.
    """
    names = [what] if isinstance(what, str) else list(what)
    if facts is None:
        msg = f"Cannot exclude {', '.join(names)} in scene {scene!r}: what its quality bands mean is not known."
        raise InputError(msg + " Pass product= of a known one, or leave exclude= out.")
    telling = _one_for_all(facts.qa, names)
    groups: dict[str, tuple[Qa, list[str]]] = {}
    for name in names:
        qa = telling or find_qa(facts.qa, name, product=facts.name)
        groups.setdefault(qa.band, (qa, []))[1].append(name)
    return {band: qa_tests(qa, some) for band, (qa, some) in groups.items()}


def quality_of(
    facts: Product | None, what: SomeFlags | None, scene: str, find: Callable[[str], Asset]
) -> tuple[QualityBand, ...]:
    """Return the quality bands of a scene, whose assets `find` returns by the bands' names."""
    if what is None or (not isinstance(what, str) and not what):
        return ()
    return tuple(QualityBand(asset=find(band), out=out) for band, out in wanted(facts, what, scene=scene).items())


def _one_for_all(bands: Sequence[Qa], names: Sequence[str]) -> Qa | None:
    try:
        return find_qa(bands, names)
    except InputError:
        return None
