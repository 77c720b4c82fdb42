"""Parts of a release: archives and extracted files by split, asset or field value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from geoxt.datasets.assets import Asset, Vector
from geoxt.datasets.spec import Archive, FolderSplit, ListSplit, Spec
from geoxt.errors import InputError
from geoxt.template import Field, Fields, Template, Value
from geoxt.template.parsing import FOLDERS, parse

Where = Mapping[str, Value | Sequence[Value]]
"""Values of fields of the paths, by field name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Part of a release: some splits, assets and field values."""

    spec: Spec
    """Specification of the whole release."""
    splits: tuple[str, ...] = ()
    """Names of the splits; empty for all."""
    assets: tuple[str, ...] = ()
    """Keys of the assets; empty for all."""
    where: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Values by field; other fields may have any value."""

    @property
    def is_filtered(self) -> bool:
        """Whether only some files of an archive are extracted; splits select whole archives."""
        return bool(self.assets or self.where)

    def prefixes(self, archive: Archive) -> tuple[str, ...]:
        """Return the path prefixes of an archive's files that may belong to the part, below the root."""
        return tuple(prefix for prefix in archive.members or (archive.file,) if self._has(archive, prefix))

    def contains(self, path: str) -> bool:
        """Return whether an extracted file belongs to the part, or is not described by the spec."""
        matches = [
            (key, fields)
            for key, asset in self.spec.assets.items()
            for template in asset.templates
            if (fields := template.match(path)) is not None
        ]
        if not matches or self._is_list(path):
            return True
        return any(key in self._keys() and self._fits(fields) for key, fields in matches)

    def describe(self, archive: Archive, prefix: str) -> str:
        """Return the assets and field values of an archive's files with a prefix: `image of season=spring`."""
        keys: dict[str, None] = {}
        values: dict[str, dict[str, None]] = {}
        for key in self._keys():
            for fields in self._overlaps(self.spec.assets[key], prefix):
                keys[key] = None
                for name, text in fields.items():
                    values.setdefault(name, {})[text] = None
        lead = self.spec.first_asset.templates[0]
        fixed = [
            f"{name}={next(iter(texts))}"
            for name, texts in values.items()
            if len(texts) == 1 and len(lead.choices(name)) > 1 and not name.startswith("_")
        ]
        every = len(keys) == len(self.spec.assets)
        name = archive.file if len(archive.members) < 2 else f"{prefix} of {archive.file}"
        return f"{name} ({'all assets' if every else ', '.join(keys)}{' of ' if fixed else ''}{', '.join(fixed)})"

    def holds_samples(self, prefix: str) -> bool:
        """Return whether files with a prefix belong to an asset of the part that has one path template."""
        assets = [self.spec.assets[key] for key in self._keys()]
        return any(
            len(asset.templates) == 1 and not asset.optional and any(True for _ in self._overlaps(asset, prefix))
            for asset in assets
        )

    def _keys(self) -> tuple[str, ...]:
        """Return the keys of the assets, and of the images whose grid they use."""
        keys = self.assets or tuple(self.spec.assets)
        grids = [a.like for key in keys if isinstance(a := self.spec.assets[key], Vector)]
        return tuple(dict.fromkeys([*keys, *grids]))

    def _has(self, archive: Archive, prefix: str) -> bool:
        if self._is_list(prefix) or (not self.is_filtered and not self.splits):
            return True
        all_files = Part(spec=self.spec)
        if not any(True for asset in self.spec.assets.values() for _ in all_files._overlaps(asset, prefix)):
            return not archive.assets or bool(set(archive.assets) & set(self._keys()))
        return any(True for key in self._keys() for _ in self._overlaps(self.spec.assets[key], prefix))

    def _is_list(self, path: str) -> bool:
        return isinstance(self.spec.splits, ListSplit) and Template(self.spec.splits.path).match(path) is not None

    def _fits(self, fields: Fields) -> bool:
        return all(fields[name] in values for name, values in self.where.items() if name in fields)

    def _overlaps(self, asset: Asset, prefix: str) -> Iterator[dict[str, str]]:
        """Yield the field values, as text by field, of paths of an asset that begin with a prefix."""
        required: dict[str, Sequence[Value]] = {**self.where, **({"split": self._split_texts()} if self.splits else {})}
        if any(name in required and not set(values) & set(required[name]) for name, values in asset.where.items()):
            return
        for template in asset.templates:
            if _may_begin(template, prefix):
                for path, fields in self._beginnings(parse(template.pattern).parts, "", {}, asset):
                    if path.startswith(prefix) or prefix.startswith(path):
                        yield fields

    def _split_texts(self) -> list[Value]:
        """Return the texts of the selected splits in paths; all texts if other rules than folders split."""
        names = getattr(self.spec.splits, "names", {})
        texts = self.spec.first_asset.templates[0].choices("split")
        return [text for text in texts if names.get(text, text) in self.splits]

    def _beginnings(
        self, parts: Sequence[str | Field], text: str, fields: dict[str, str], asset: Asset
    ) -> Iterator[tuple[str, dict[str, str]]]:
        for position, part in enumerate(parts):
            if isinstance(part, str):
                text += "" if part == FOLDERS else part
            elif part.name in fields:
                text += fields[part.name]
            else:
                for choice in self._texts(part, asset):
                    yield from self._beginnings(
                        parts[position + 1 :], text + choice, {**fields, part.name: choice}, asset
                    )
                if self._texts(part, asset) or part.choices:
                    return
                break
        yield text, fields

    def _texts(self, part: Field, asset: Asset) -> list[str]:
        """Return the texts of a field in paths of the part; an empty list if it has no choices."""
        texts = list(part.choices)
        if part.name in self.where:
            texts = [part.write(value) for value in self.where[part.name]]
        if part.name in asset.where:
            texts = [text for text in texts if part.read(text) in asset.where[part.name]]
        if part.name == "split" and isinstance(self.spec.splits, FolderSplit) and self.splits:
            texts = [text for text in texts if text in self._split_texts()]
        return texts


def make_part(
    spec: Spec, *, splits: Sequence[str] = (), assets: Sequence[str] | None = None, where: Where | None = None
) -> Part:
    """Return a part of a release.

    Raises
    ------
    InputError
        If an asset, a field or a value is unknown.
    """
    check_assets(spec, assets or ())
    return Part(
        spec=spec, splits=tuple(splits), assets=tuple(assets or ()), where=_parse_where(spec, assets or (), where or {})
    )


def check_assets(spec: Spec, assets: Sequence[str]) -> None:
    """Raise if the key of an asset is unknown."""
    for key in assets:
        if key not in spec.assets:
            msg = f"Cannot find asset {key!r} of {spec.name!r}: it has {', '.join(spec.assets)}."
            raise InputError(msg, remedy="Pass {assets} of these keys.", value=key, argument="assets")


def check_splits(spec: Spec, splits: Sequence[str]) -> None:
    """Raise if a split is unknown."""
    for split in splits:
        if split not in spec.split_names:
            msg = f"Cannot find split {split!r} of {spec.name!r}: it has {', '.join(spec.split_names) or 'no splits'}."
            remedy = "Pass {split} of these, or leave it out for all samples."
            raise InputError(
                msg, remedy=remedy if spec.split_names else "Leave {split} out.", value=split, argument="split"
            )


def select_where(spec: Spec, where: Mapping[str, tuple[Value, ...]]) -> Spec:
    """Return the spec with only the samples that have given field values."""
    key, lead = next(iter(spec.assets.items()))
    return replace(spec, assets={**spec.assets, key: replace(lead, where={**lead.where, **where})}) if where else spec


def _parse_where(spec: Spec, assets: Sequence[str], where: Where) -> dict[str, tuple[Value, ...]]:
    lead = next(asset for key, asset in spec.assets.items() if not assets or key in assets)
    fields = {name: f for name, f in parse(lead.templates[0].pattern).fields.items() if name in lead.names}
    out: dict[str, tuple[Value, ...]] = {}
    for name, selected in where.items():
        if name not in fields:
            msg = f"Cannot select samples of {spec.name!r} by {name!r}: its paths have {', '.join(fields)}."
            raise InputError(msg, remedy="Pass {where} with these fields.", value=name, argument="where")
        values = tuple(selected) if isinstance(selected, Sequence) and not isinstance(selected, str) else (selected,)
        out[name] = tuple(_value(spec, fields[name], value) for value in values)
    return out


def _value(spec: Spec, part: Field, value: Value) -> Value:
    """Return a value of a field; text, such as that of the CLI, is read as in a path."""
    try:
        value = part.read(value) if isinstance(value, str) else value
        part.write(value)
    except (ValueError, InputError) as error:
        allowed = ", ".join(part.choices) or f"of the form {part.form or 'text'!r}"
        msg = f"Cannot select samples of {spec.name!r} with {part.name}={value!r}: its values are {allowed}."
        raise InputError(msg, remedy="Pass {where} with these values.", value=value, argument="where") from error
    return value


def _may_begin(template: Template, prefix: str) -> bool:
    """Return whether the complete folders of a prefix match the first levels of a template."""
    for level, name in zip(parse(template.pattern).levels, prefix.split("/")[:-1], strict=False):
        if level.literal == FOLDERS:
            return True
        if level.regex.fullmatch(name) is None:
            return False
    return True
