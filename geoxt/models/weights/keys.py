"""Renaming of state-dict keys of other libraries to those of timm, by tables of regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor

State = dict[str, Tensor]
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "teacher")
"""Keys under which checkpoints hold the state dict."""
_RESNET = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_BLOCKS = (0, *accumulate((1, 2, 2, 3, 3, 4, 1)))
"""Index of the first block of each stage of EfficientNet-B0 and -Lite0."""
_PARTS = {
    "_conv_stem.": "conv_stem.",
    "_bn0.": "bn1.",
    "_conv_head.": "conv_head.",
    "_bn1.": "bn2.",
    "_fc.": "classifier.",
}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of EfficientNet's first stage, whose blocks do not expand their channels."""
_OTHER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}


def _child(match: re.Match[str]) -> str:
    return f"{_RESNET[match[1]]}."


def _block(match: re.Match[str]) -> str:
    index = int(match[1])
    stage = next(number for number, (start, end) in enumerate(pairwise(_BLOCKS)) if start <= index < end)
    layers = (_OTHER if stage else _FIRST) | _SQUEEZE
    return f"blocks.{stage}.{index - _BLOCKS[stage]}.{layers[match[2]]}."


Replacement = str | Callable[[re.Match[str]], str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Key naming of one library or method."""

    name: str
    """Library or method."""
    marker: str
    """Regular expression that a key of this layout matches."""
    rules: tuple[tuple[str, Replacement], ...]
    """Regular expressions and replacements; the first match applies, `None` drops the weight. Other keys stay."""


LAYOUTS = (
    Layout(
        name="MoCo",
        marker=r"^module\.encoder_q\.",
        rules=((r"^module\.encoder_q\.fc\.", None), (r"^module\.encoder_q\.", ""), (r"^", None)),
    ),
    Layout(
        name="MoCo, children of a ResNet by number",
        marker=r"^encoder_q\.[01]\.",
        rules=((r"^encoder_q\.([014567])\.", _child), (r"^", None)),
    ),
    Layout(
        name="lightly, children of a ResNet by number",
        marker=r"^backbone\.[01]\.",
        rules=((r"^backbone\.([014567])\.", _child), (r"^", None)),
    ),
    Layout(name="lightly", marker=r"^backbone\.", rules=((r"^backbone\.", ""), (r"^", None))),
    Layout(name="DistributedDataParallel", marker=r"^module\.", rules=((r"^module\.", ""),)),
    Layout(name="Lightning", marker=r"^model\.", rules=((r"^model\.", ""), (r"^", None))),
    Layout(name="MAE", marker=r"^decoder_", rules=((r"^(decoder_|mask_token$)", None),)),
    Layout(
        name="torchvision's ViT",
        marker=r"^conv_proj\.",
        rules=(
            (r"^conv_proj\.", "patch_embed.proj."),
            (r"^class_token$", "cls_token"),
            (r"^encoder\.pos_embedding$", "pos_embed"),
            (r"^encoder\.ln\.", "norm."),
            (r"^heads\.head\.", "head."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.", r"blocks.\1.mlp.fc1."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.", r"blocks.\1.mlp.fc2."),
        ),
    ),
    Layout(
        name="efficientnet-pytorch",
        marker=r"^_conv_stem\.",
        rules=(
            (r"^_blocks\.(\d+)\.(_\w+)\.", _block),
            (r"^(_conv_stem\.|_bn0\.|_conv_head\.|_bn1\.|_fc\.)", lambda match: _PARTS[match[1]]),
        ),
    ),
)
"""Known layouts, in order of precedence."""


def unwrap(checkpoint: Any) -> State:
    """Return the tensors of a checkpoint, which may be nested beside optimizer states, or in one dict per part."""
    while isinstance(checkpoint, Mapping):
        inner = next((checkpoint[key] for key in _WRAPPERS if isinstance(checkpoint.get(key), Mapping)), None)
        if inner is None:
            parts = {key: unwrap(value) for key, value in checkpoint.items() if isinstance(value, Mapping)}
            nested = {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}
            return {key: value for key, value in checkpoint.items() if isinstance(value, Tensor)} or nested
        checkpoint = inner
    return {}


def rename(state: State) -> tuple[State, tuple[str, ...]]:
    """Return weights under timm's keys, and the names of the layouts that applied, outermost first."""
    applied: list[str] = []
    for _ in LAYOUTS:
        layout = next((x for x in LAYOUTS if x.name not in applied and _matches(x, state)), None)
        if layout is None:
            break
        applied.append(layout.name)
        renamed = {_name(key, layout): value for key, value in state.items()}
        state = {key: value for key, value in renamed.items() if key is not None}
    return state, tuple(applied)


def _matches(layout: Layout, state: State) -> bool:
    return any(re.search(layout.marker, key) for key in state)


def _name(key: str, layout: Layout) -> str | None:
    for pattern, replacement in layout.rules:
        if re.search(pattern, key):
            return None if replacement is None else re.sub(pattern, replacement, key, count=1)
    return key
