"""Quality: from the names of what shall be taken out to the quality bands of each scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from geoxt.errors import InputError
from geoxt.layers.sensors import LayerSpec, Qa, find_qa, qa_tests
from geoxt.source import Asset, Quality

SomeMask = str | Sequence[str]
"""What to take out, by name: "clouds", or ["clouds", "shadows"]."""


def wanted(facts: LayerSpec | None, what: SomeMask, *, scene: str) -> dict[str, tuple[tuple[int, int, int], ...]]:
    """Return what each quality band of a layer takes out, by the band's name.

    One band that tells all is taken; else several, each the first that tells a name.

    Raises
    ------
    InputError
        Where the layer is not known, or none of its bands tells a name.
    """
    names = [what] if isinstance(what, str) else list(what)
    if facts is None:
        msg = f"Cannot mask {', '.join(names)} in scene {scene!r}: what its quality bands mean is not known."
        raise InputError(msg + " Pass layer= of a known one, or leave mask= out.")
    telling = _one_for_all(facts.qa, names)
    groups: dict[str, tuple[Qa, list[str]]] = {}
    for name in names:
        qa = telling or find_qa(facts.qa, name, layer=facts.name)
        groups.setdefault(qa.band, (qa, []))[1].append(name)
    return {band: qa_tests(qa, some) for band, (qa, some) in groups.items()}


def quality_of(
    facts: LayerSpec | None, what: SomeMask | None, scene: str, find: Callable[[str], Asset]
) -> tuple[Quality, ...]:
    """Return the quality bands of a scene, whose assets `find` returns by the bands' names."""
    if what is None or (not isinstance(what, str) and not what):
        return ()
    return tuple(Quality(asset=find(band), out=out) for band, out in wanted(facts, what, scene=scene).items())


def _one_for_all(bands: Sequence[Qa], names: Sequence[str]) -> Qa | None:
    try:
        return find_qa(bands, names)
    except InputError:
        return None
