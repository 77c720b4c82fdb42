"""Operations on arrays for which PyTorch is several times as fast as NumPy.

PyTorch takes seconds to import: it is imported by the first call, so that layers are opened and aligned without it.
"""

from __future__ import annotations

from geoxt.types import Array


def grid_sample(values: Array, coordinates: Array) -> Array:
    """Return bilinear samples by `torch.nn.functional.grid_sample`; coordinates outside are clipped to the border.

    Parameters
    ----------
    values
        (band, rows, cols), float32 or float64, contiguous.
    coordinates
        (height, width, 2), x before y, of the same type: -1 and 1 at the outer edges of `values`.

    Returns
    -------
    (band, height, width)
    """
    import torch

    bilinear, border = 0, 1  # the codes of `torch.nn.functional.grid_sample`, which takes longer to parse the names
    tensors = torch.from_numpy(values)[None], torch.from_numpy(coordinates)[None]
    samples: Array = torch.grid_sampler(*tensors, bilinear, border, False)[0].numpy()
    return samples


def accumulate(values: Array) -> None:
    """Replace numbers (rows, columns, samples) by cumulative sums of their bits as integers over columns.

    PyTorch is six times as fast as NumPy here, which stores and loads each sum.
    """
    import torch

    signed = torch.from_numpy(values.view(f"i{values.itemsize}"))
    torch.cumsum(signed, 1, dtype=signed.dtype, out=signed)
