"""Codes become class indices and come back; codes of no class are ignored."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoxt.legend import Legend
from geoxt.trainers.codes import IGNORE, Codes

codes = st.lists(st.integers(-5, 300), min_size=1, max_size=8, unique=True)


@given(codes, hnp.arrays("int64", hnp.array_shapes(max_dims=3), elements=st.integers(-10, 310)))
def test_an_index_is_the_place_in_the_list(known, mask):
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
