"""Keys of other libraries are renamed to timm's: outputs equal those of the libraries' models."""

import timm
import torch
from torch import nn

from geoxt.models.weights.keys import rename, unwrap


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def test_timm_keys_are_unchanged(source):
    state = source.state_dict()
    named, layouts = rename(state)
    assert list(named) == list(state)
    assert all(named[key] is state[key] for key in state)
    assert layouts == ()


def test_checkpoint_is_unwrapped(source):
    state = source.state_dict()
    assert unwrap({"epoch": 3, "state_dict": {"model": state}, "optimizer": {"state": {}}}) == state
    assert unwrap({"epoch": 3}) == {}
    assert unwrap([state]) == {}


def test_moco_query_encoder_is_kept(source):
    state = source.state_dict()
    body = {key: value for key, value in state.items() if not key.startswith("fc.")}
    moco = {
        **prefixed(state, "module.encoder_q."),
        **prefixed(state, "module.encoder_k."),
        "module.queue": torch.ones(2),
    }
    assert rename(moco) == (body, ("MoCo",))


def test_numbered_resnet_children(source):
    """lightly and SeCo save a ResNet without its last layers as a Sequential."""
    body = nn.Sequential(*list(source.children())[:-2])
    expected = {key: value for key, value in source.state_dict().items() if not key.startswith("fc.")}
    for prefix in ("backbone.", "encoder_q."):
        named, layouts = rename({**prefixed(body.state_dict(), prefix), "projection.weight": torch.ones(1)})
        assert named.keys() == expected.keys()
        assert all(torch.equal(named[key], expected[key]) for key in expected)
        assert len(layouts) == 1


def test_nested_prefixes(source):
    state = source.state_dict()
    assert rename(prefixed(state, "module.model.")) == (state, ("DistributedDataParallel", "Lightning"))
    assert rename(prefixed(state, "backbone.")) == (state, ("lightly",))


def test_mae_decoder_is_dropped():
    state = {"cls_token": torch.zeros(1), "decoder_embed.weight": torch.zeros(1), "mask_token": torch.zeros(1)}
    assert set(rename(state)[0]) == {"cls_token"}


def test_torchvision_vit_equals_timm():
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    theirs = VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
    ).eval()
    nn.init.normal_(theirs.heads.head.weight)  # it begins with zeros
    ours = timm.models.VisionTransformer(
        img_size=16, patch_size=8, depth=2, num_heads=2, embed_dim=8, mlp_ratio=2, num_classes=3
    ).eval()
    named, layouts = rename(theirs.state_dict())
    ours.load_state_dict(named, strict=True)
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image))
    assert layouts == ("torchvision's ViT",)


def efficientnet_pytorch(state):
    """Return timm's B0 under efficientnet-pytorch's keys: both order layers alike."""
    head = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    layers = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    layers |= {"conv_pwl": "_project_conv", "bn3": "_bn2", "conv_reduce": "_se_reduce", "conv_expand": "_se_expand"}
    first = {**layers, "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    blocks = list(dict.fromkeys(tuple(key.split(".")[1:3]) for key in state if key.startswith("blocks.")))
    names = {}
    for key in state:
        parts = key.split(".")
        if parts[0] != "blocks":
            names[key] = ".".join([head[parts[0]], *parts[1:]])
        else:
            index = blocks.index((parts[1], parts[2]))
            names[key] = f"_blocks.{index}.{(layers if index else first)[parts[-2]]}.{parts[-1]}"
    return {names[key]: value for key, value in state.items()}


def test_efficientnet_blocks_map_to_stages():
    with torch.device("meta"):
        state = timm.create_model("efficientnet_b0", num_classes=4).state_dict()
    theirs = efficientnet_pytorch(state)
    assert len(theirs) == len(state)
    assert "_blocks.0._expand_conv.weight" not in theirs
    assert "_blocks.15._se_reduce.bias" in theirs
    named, layouts = rename(theirs)
    assert all(named[key] is state[key] for key in state)
    assert layouts == ("efficientnet-pytorch",)
