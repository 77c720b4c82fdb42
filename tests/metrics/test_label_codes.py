"""Class codes convert to class indices and back; other codes are ignored, with a warning."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoxt.errors import LabelWarning
from geoxt.legend import Legend
from geoxt.metrics.label_codes import IGNORE, Codes
from geoxt.trainers.tasks.detection_targets import detection_targets
from geoxt.trainers.tasks.targets import image_class, pixel_classes

codes = st.lists(st.integers(-5, 300), min_size=1, max_size=8, unique=True)


@given(codes, hnp.arrays("int64", hnp.array_shapes(max_dims=3), elements=st.integers(-10, 310)))
def test_index_is_position_in_list(known, mask):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelWarning)
        indices = Codes(known)(torch.from_numpy(mask)).numpy()
    expected = [known.index(code) if code in known else IGNORE for code in mask.ravel().tolist()]
    np.testing.assert_array_equal(indices.ravel(), expected)
    assert indices.shape == mask.shape


@given(codes)
def test_decode_inverts_encode_and_agrees_with_legend(known):
    mask = torch.tensor(known)
    assert torch.equal(Codes(known).decode(Codes(known)(mask)), mask)
    legend = Legend(tuple(known), tuple(map(str, known)))
    np.testing.assert_array_equal(Codes(known)(mask), legend.encode(mask.numpy()))


BOX = torch.tensor([[0.0, 0.0, 4.0, 4.0]])


@pytest.mark.parametrize("kind", ["pixels", "image", "instances"])
def test_unknown_codes_warn_once(kind):
    def is_labeled(codes, label):
        mask = torch.full((1, 2, 2), label)
        if kind == "pixels":
            return bool(
                (pixel_classes({"image": mask[:, None].float(), "mask": mask}, "image", "mask", codes) >= 0).all()
            )
        if kind == "image":
            return bool((image_class({"label": mask[0, 0]}, "image", "label", codes) >= 0).all())
        return len(detection_targets({"boxes": [BOX], "labels": [mask[0, 0, :1]]}, codes, masks=False)[0]["boxes"]) == 1

    codes = Codes((3, 4), nodata=7)
    with pytest.warns(LabelWarning, match=r"hold 9, codes of none of the classes 3, 4: .* card\(legend=\)"):
        assert not is_labeled(codes, 9)
    assert not is_labeled(codes, 9)  # warnings are errors in tests: there is no second one
    assert is_labeled(codes, 3)
    for silent in (7, -1, IGNORE):
        assert not is_labeled(codes, silent)
    with pytest.warns(LabelWarning, match="hold 8, "):
        assert not is_labeled(codes, 8)


def test_invalid_pixels_do_not_warn():
    mask, valid = torch.tensor([[[3, 9], [4, 9]]]), torch.tensor([[[True, False], [True, False]]])
    indices = pixel_classes(
        {"image": mask[:, None].float(), "mask": mask, "mask_valid": valid}, "image", "mask", Codes((3, 4))
    )
    assert indices.tolist() == [[[0, IGNORE], [1, IGNORE]]]
