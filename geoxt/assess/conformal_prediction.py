"""Conformal prediction: thresholds from held-out blocks, and their coverage on other blocks."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from geoxt.assess.conformal_scores import (
    SCORES,
    Exchangeable,
    Method,
    conformal_quantile,
    hierarchical_quantile,
    require_alpha,
    required_pixels,
)
from geoxt.assess.conformal_sets import ConformalIntervals, ConformalSets, in_set
from geoxt.assess.held_out_pixels import MAX_PIXELS, HeldOutPixels, held_out_pixels, network_with_card
from geoxt.errors import AssessmentWarning, InputError, optional_import
from geoxt.regions.rasterize import SomeRegion
from geoxt.types import Array, Mask, SomePath, SomeSize


def conformal(
    model: nn.Module | SomePath | None,
    data: xr.Dataset,
    alpha: float = 0.1,
    *,
    method: Method = "lac",
    class_conditional: bool = False,
    exchangeable: Exchangeable = "pixels",
    region: SomeRegion | None = None,
    block: SomeSize | None = None,
    test_fraction: float = 0.5,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    **options: Any,
) -> ConformalSets | ConformalIntervals:
    """Return conformal prediction sets of classes, or prediction intervals of a quantity, of coverage 1 - alpha.

    Split conformal prediction: the threshold of the conformity score is its quantile over calibration pixels, with the
    finite-sample correction. The coverage is then measured on pixels of other blocks.

    Parameters
    ----------
    model
        A trained task, its network, or the path of its checkpoint; `None` for an ensemble of `members=`.
    data
        An image and labels on one grid; the labels are named `mask`, for regression `target`.
    alpha
        Error rate, between 0 and 1.
    method
        Conformity score of classes. "lac" is 1 minus the probability of the class: the sets are the smallest, and some
        may be empty (Sadinle et al. 2019). "aps" is the sum of the probabilities from the largest down to that of the
        class: sets are larger for uncertain pixels, and hold the most probable class (Romano et al. 2020, without
        randomization). Regression always uses the absolute residual (Lei et al. 2018).
    class_conditional
        Whether each class has a separate threshold, so that the coverage holds for each class (Vovk 2012). A class with
        too few calibration pixels is in all sets.
    exchangeable
        "pixels": the coverage holds for pixels that are exchangeable with the calibration pixels. "blocks": it holds
        for pixels of a new block, if blocks are exchangeable (Lee et al. 2023). Sets are larger, and at least
        1 / alpha - 1 calibration blocks are needed: 9 for 0.1.
    region
        Held-out pixels, such as the test part of a split; all by default. Leave out the pixels of training and of
        `calibrate`.
    block
        Side of the blocks in pixels, or (height, width); larger than the range of the autocorrelation of errors. By
        default the blocks are the rectangles of the region, such as those of `splits.by_block`.
    test_fraction
        Fraction of the blocks on which coverage is measured.
    max_pixels
        Approximate maximum number of pixels; of more, a random sample is used.
    seed
        Seed of the draw of test blocks, and of the sample.
    options
        Further arguments of `geoxt.predict`, such as `size`, `bands` and `members`.

    Returns
    -------
    ConformalSets or ConformalIntervals
        Measured `coverage` with its 95 % interval over test blocks, for classes also by class, with numbers of pixels;
        `predict_set` and `set_size` of a layer
        of probabilities, `predict_interval` of a regression.

    Raises
    ------
    InputError
        If alpha is not between 0 and 1, there are too few calibration pixels or blocks for it, or fewer than two
        blocks.
    LabelError
        If a code has other names in the labels and the model.
    OverlapError
        If no pixel has a prediction and a label.

    Warns
    -----
    AssessmentWarning
        If classes have no calibration pixels, or too few for thresholds by class, or labels have codes that the model
        lacks.

    Notes
    -----
    Neighbouring pixels are correlated, and landscapes differ: with `exchangeable="pixels"` and few blocks, the coverage
    elsewhere differs from 1 - alpha by more than the number of pixels suggests. Compare the measured coverage and its
    interval.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from geoxt import assess, predict
    >>> from geoxt.grid import coordinates
    >>> from geoxt.legend import Legend
    >>> from geoxt.models import Card, Network
    >>> from geoxt.testing import make_grid
    >>> legend = Legend((1, 2), ("water", "land"))
    >>> card = Card(
    ...     task="segmentation",
    ...     model="fcn",
    ...     options={"width": 2, "layers": 1},
    ...     bands=("nir",),
    ...     mean=(0,),
    ...     std=(1,),
    ...     codes=legend.codes,
    ...     names=legend.names,
    ...     colors=legend.colors,
    ...     size=(32, 32),
    ... )
    >>> network = Network(card)
    >>> rng, coords = np.random.default_rng(0), coordinates(make_grid((64, 64)))
    >>> codes, noise = rng.integers(1, 3, (64, 64)).astype("uint8"), rng.normal(size=(1, 64, 64)).astype("float32")
    >>> image = xr.DataArray(noise, dims=("band", "y", "x"), coords={"band": ["nir"], **coords})
    >>> mask = xr.DataArray(codes, dims=("y", "x"), coords=coords, attrs=legend.attrs())
    >>> sets = assess.conformal(network, xr.Dataset({"image": image, "mask": mask}), alpha=0.1, block=16, size=32)
    >>> sets.coverage > 0.85
    True
    >>> sets.set_size(predict(image, network, output="probabilities", size=32)).shape
    (64, 64)

    References
    ----------
    Sadinle, Lei and Wasserman 2019, Least ambiguous set-valued classifiers with bounded error levels.
    https://doi.org/10.1080/01621459.2017.1395341

    Romano, Sesia and Candès 2020, Classification with valid and adaptive coverage. https://arxiv.org/abs/2006.02544

    Lei et al. 2018, Distribution-free predictive inference for regression.
    https://doi.org/10.1080/01621459.2017.1307116

    Lee, Barber and Willett 2023, Distribution-free inference with hierarchical data. https://arxiv.org/abs/2306.06342

    Vovk 2012, Conditional validity of inductive conformal predictors. https://proceedings.mlr.press/v25/vovk12.html
    """
    require_alpha(alpha)
    if method not in SCORES:
        problem = f"Cannot calibrate sets by the method {method!r}."
        raise InputError(problem, remedy=f"Pass {{method}}, one of {', '.join(SCORES)}.", argument="method")
    if exchangeable not in {"pixels", "blocks"}:
        problem = f"Cannot calibrate sets with exchangeable {exchangeable!r}."
        raise InputError(problem, remedy="Pass {exchangeable:'pixels'} or 'blocks'.", argument="exchangeable")
    if not isinstance(test_fraction, Real) or not 0 < test_fraction < 1:
        problem = f"Cannot measure coverage on a fraction of {test_fraction!r} of the blocks."
        remedy = "Pass {test_fraction:0.5}, between 0 and 1."
        raise InputError(problem, remedy=remedy, value=test_fraction, argument="test_fraction")
    card = network_with_card(model, options).card
    if not (card.kind.is_categorical or card.kind.activation == "identity"):
        problem = f"Cannot calibrate sets of a model for {card.task}."
        raise InputError(problem, remedy="Pass a {model} for segmentation or pixelwise regression.", argument="model")
    pixels = held_out_pixels(
        model,
        data,
        card,
        output="probabilities" if card.kind.is_categorical else "regression",
        region=region,
        block=block,
        by_block=True,
        max_pixels=max_pixels,
        seed=seed,
        options=options,
    )
    is_test, blocks = _test_part(pixels, test_fraction, seed)
    _require_enough(int((~is_test).sum()), "pixels", alpha)
    if exchangeable == "blocks":
        _require_enough(blocks[0], "blocks", alpha)
    if card.kind.is_categorical:
        return _sets(
            pixels, is_test, blocks, card.legend.distinct_names, alpha, method, class_conditional, exchangeable
        )
    return _intervals(pixels, is_test, blocks, alpha, exchangeable)


def _test_part(pixels: HeldOutPixels, test_fraction: float, seed: int) -> tuple[Mask, tuple[int, int]]:
    """Return the mask of the pixels in test blocks, and the numbers of calibration and test blocks."""
    count = int(pixels.blocks.max()) + 1
    if count < 2:
        problem = "Cannot divide the pixels into parts for calibration and test: they lie in one block."
        raise InputError(problem, remedy="Pass a smaller {block}. Or pass another {region}.", argument="block")
    tests = min(max(round(test_fraction * count), 1), count - 1)
    test_blocks = np.random.default_rng([seed, 23]).permutation(count)[:tests]
    return np.isin(pixels.blocks, test_blocks), (count - tests, tests)


def _require_enough(count: int, units: str, alpha: float) -> None:
    required = required_pixels(alpha)
    if count < required:
        problem = f"Cannot calibrate for alpha={alpha:g} from {count} {units}: {required} or more are needed."
        remedy = "Pass a larger {alpha}. Or pass a larger {region}."
        remedy += " Or pass a smaller {block} or {test_fraction}." if units == "blocks" else ""
        raise InputError(problem, remedy=remedy, value=count, argument="alpha")


def _quantile(scores: Array, blocks: Array, alpha: float, exchangeable: Exchangeable) -> float:
    """Return the threshold of the scores of calibration pixels."""
    if exchangeable == "pixels":
        return conformal_quantile(scores, alpha)
    return hierarchical_quantile(scores, blocks, alpha)


def block_interval(covered: Array, blocks: Array) -> float:
    """Return the half width of the 95 % interval of a fraction of pixels over blocks; NaN for one block.

    Ratio of the totals of blocks, with Student's t (Cochran 1977, Sampling Techniques, section 9A.5).
    """
    with optional_import("scipy", "assess", "compute an interval over blocks"):
        from scipy.special import stdtrit
    sizes = np.bincount(blocks)
    sums, sizes = np.bincount(blocks, covered)[sizes > 0], sizes[sizes > 0]
    count = len(sizes)
    if count < 2:
        return float("nan")
    residuals = sums - sums.sum() / sizes.sum() * sizes
    se = np.sqrt(count / (count - 1) * (residuals**2).sum()) / sizes.sum()
    return float(stdtrit(count - 1, 0.975) * se)


def _sets(
    pixels: HeldOutPixels,
    is_test: Mask,
    blocks: tuple[int, int],
    classes: tuple[str, ...],
    alpha: float,
    method: Method,
    class_conditional: bool,  # noqa: FBT001 (as in the public function)
    exchangeable: Exchangeable,
) -> ConformalSets:
    labels, tested = pixels.labels[~is_test], pixels.labels[is_test]
    calibration_blocks, test_blocks = pixels.blocks[~is_test], pixels.blocks[is_test]
    scores = np.take_along_axis(SCORES[method](pixels.outputs[~is_test]), labels[:, None], 1)[:, 0]
    counts = np.bincount(labels, minlength=len(classes))
    if class_conditional:
        masks = [labels == k for k in range(len(classes))]
        thresholds = [_quantile(scores[mask], calibration_blocks[mask], alpha, exchangeable) for mask in masks]
    else:
        thresholds = [_quantile(scores, calibration_blocks, alpha, exchangeable)] * len(classes)
    _warn_of_rare_classes(counts, classes, alpha if class_conditional else None)
    limits = np.array(thresholds, np.float32)
    members = in_set(pixels.outputs[is_test], limits, method)
    covered = np.take_along_axis(members, tested[:, None], 1)[:, 0]
    test_counts = np.bincount(tested, minlength=len(classes))
    with np.errstate(invalid="ignore"):
        class_coverage = np.bincount(tested, covered, len(classes)) / test_counts
    return ConformalSets(
        alpha=alpha,
        method=method,
        class_conditional=class_conditional,
        exchangeable=exchangeable,
        classes=classes,
        thresholds=limits,
        calibration_pixels=counts,
        test_pixels=test_counts,
        coverage=float(covered.mean()),
        coverage_ci95=block_interval(covered, test_blocks),
        class_coverage=class_coverage,
        class_coverage_ci95=np.array(
            [block_interval(covered[tested == k], test_blocks[tested == k]) for k in range(len(classes))]
        ),
        sizes=np.bincount(members.sum(1), minlength=len(classes) + 1),
        blocks=blocks,
    )


def _warn_of_rare_classes(counts: Array, classes: tuple[str, ...], alpha: float | None) -> None:
    """Warn of classes without calibration pixels, or for thresholds by class with too few."""
    required = 1 if alpha is None else required_pixels(alpha)
    rare = [f"{classes[k]} ({counts[k]})" for k in np.flatnonzero(counts < required)]
    if rare and alpha is None:
        text = f"{len(rare)} classes have no calibration pixels: {', '.join(rare)}. Their coverage is unknown."
        warnings.warn(text, AssessmentWarning, stacklevel=4)
    elif rare:
        text = f"{len(rare)} classes have fewer than {required} calibration pixels: {', '.join(rare)}. They are in all "
        warnings.warn(f"{text}sets.", AssessmentWarning, stacklevel=4)


def _intervals(
    pixels: HeldOutPixels, is_test: Mask, blocks: tuple[int, int], alpha: float, exchangeable: Exchangeable
) -> ConformalIntervals:
    if pixels.outputs.shape[1] != 1:
        problem = f"Cannot calibrate intervals of a model that predicts {pixels.outputs.shape[1]} quantities."
        raise InputError(problem, remedy="Pass a {model} that predicts one quantity.", argument="model")
    residuals = np.abs(pixels.outputs[:, 0].astype(np.float64) - pixels.labels)
    calibration = residuals[~is_test]
    half_width = _quantile(calibration, pixels.blocks[~is_test], alpha, exchangeable)
    covered = residuals[is_test] <= half_width
    return ConformalIntervals(
        alpha=alpha,
        half_width=half_width,
        calibration_pixels=len(calibration),
        test_pixels=int(is_test.sum()),
        coverage=float(covered.mean()),
        coverage_ci95=block_interval(covered, pixels.blocks[is_test]),
        blocks=blocks,
    )
