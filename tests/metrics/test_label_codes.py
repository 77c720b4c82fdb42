"""Codes become class indices and come back; codes of no class are left out, and warned of."""

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
def test_an_index_is_the_place_in_the_list(known, mask):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelWarning)
        found = Codes(known)(torch.from_numpy(mask)).numpy()
    wanted = [known.index(code) if code in known else IGNORE for code in mask.ravel().tolist()]
    np.testing.assert_array_equal(found.ravel(), wanted)
    assert found.shape == mask.shape


@given(codes)
def test_decoding_gives_the_codes_back_and_the_legend_agrees(known):
    mask = torch.tensor(known)
    assert torch.equal(Codes(known).decode(Codes(known)(mask)), mask)
    legend = Legend(tuple(known), tuple(map(str, known)))
    np.testing.assert_array_equal(Codes(known)(mask), legend.encode(mask.numpy()))


BOX = torch.tensor([[0.0, 0.0, 4.0, 4.0]])


@pytest.mark.parametrize("kind", ["pixels", "image", "things"])
def test_labels_of_no_class_are_warned_of_once(kind):
    def learn(codes, label):
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
        assert not learn(codes, 9)
    assert not learn(codes, 9)  # warnings are errors in tests: there is no second one
    assert learn(codes, 3)
    for silent in (7, -1, IGNORE):
        assert not learn(codes, silent)
    with pytest.warns(LabelWarning, match="hold 8, "):
        assert not learn(codes, 8)


def test_codes_of_no_class_are_not_warned_of_where_nothing_is_known():
    mask, valid = torch.tensor([[[3, 9], [4, 9]]]), torch.tensor([[[True, False], [True, False]]])
    found = pixel_classes(
        {"image": mask[:, None].float(), "mask": mask, "mask_valid": valid}, "image", "mask", Codes((3, 4))
    )
    assert found.tolist() == [[[0, IGNORE], [1, IGNORE]]]
