"""Ensembles as a single module: mean over members, Monte Carlo dropout samples and test-time augmentation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.inference.fingerprint import fingerprint
from geoxt.inference.mc_dropout import activate_dropout, active_sample
from geoxt.inference.model_output import model_output
from geoxt.inference.output_kinds import OutputKind, Stage
from geoxt.inference.uncertainty import Spread
from geoxt.models.card import Card
from geoxt.models.network import Network

_STAGES = ("probabilities", "activated")
"""Stages whose values can be averaged over predictions."""
_COMPARED = {"task": "tasks", "bands": "bands", "common_names": "common names of bands", "codes": "class codes"}
_COMPARED |= {"names": "class names"}
"""Fields of a model card in which members must agree."""


class Ensemble(nn.Module):
    """Mean of several predictions, or their mean and spread.

    Parameters
    ----------
    members
        Networks, or modules without a card.
    stage
        Stage at which outputs are averaged.
    head
        Key or index of one of several outputs.
    classes
        Whether channels are class probabilities.
    spread
        Whether to return the spread: of classes the mean probabilities, mutual information and variance (mean over
        classes); of quantities their variances.
    num_mc_samples
        Samples of Monte Carlo dropout of each member; 0 for none.
    tta
        Whether to average over flips and rotations of the images.
    seed
        Seed of the dropout masks.
    """

    takes_valid = True

    def __init__(
        self,
        members: Sequence[nn.Module],
        *,
        stage: Stage,
        head: str | int | None,
        classes: bool,
        spread: bool,
        num_mc_samples: int = 0,
        tta: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        copies = [copy.deepcopy(member) for member in members]
        if num_mc_samples:
            for member in copies:
                activate_dropout(member)
        self.members = nn.ModuleList(copies)
        self.stage: Stage = stage
        self.head = head
        self.classes = classes
        self.spread = spread
        self.num_mc_samples = num_mc_samples
        self.tta = tta
        self.seed = seed

    @property
    def takes_float64(self) -> bool:
        """Whether all members are estimators, which take pixels as float64."""
        return all(getattr(member, "takes_float64", False) for member in self.members)

    def forward(self, images: Tensor, valid: Tensor) -> Tensor:
        """Return the mean or spread (N, K, h, w) for images (N, …, C, H, W) with valid masks (N, …, H, W)."""
        spread = Spread()
        for member in self.members:
            for values in self._predictions(member, images, valid):
                if spread.count and values.shape != spread.mean.shape:
                    msg = f"Cannot average members whose outputs have {spread.mean.shape[1]} and {values.shape[1]} "
                    msg += f"channels, of {tuple(spread.mean.shape[2:])} and {tuple(values.shape[2:])} pixels."
                    raise InputError(msg, remedy="Pass {members} with equal outputs.", argument="members")
                spread.add(values.float(), classes=self.classes)
        if not self.spread:
            return spread.mean
        if not self.classes:
            return spread.variance
        return torch.cat([spread.mean, spread.mutual_information, spread.variance.mean(1, keepdim=True)], dim=1)

    def _predictions(self, member: nn.Module, images: Tensor, valid: Tensor) -> Iterator[Tensor]:
        for flip, unflip in symmetries(images.shape[-2:]) if self.tta else symmetries((0, 1))[:1]:
            turned = flip(images), flip(valid)
            for sample in range(max(self.num_mc_samples, 1)):
                if self.num_mc_samples:
                    with active_sample(self.seed, sample):
                        output = model_output(member, *turned, stage=self.stage, head=self.head)
                else:
                    output = model_output(member, *turned, stage=self.stage, head=self.head)
                yield unflip(output)


def symmetries(shape: Sequence[int]) -> list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """Return flips and rotations of images (…, H, W), the identity first, each with its inverse.

    Eight for square images; four, which keep height and width, for others.
    """
    quarters = (0, 1, 2, 3) if shape[0] == shape[1] else (0, 2)
    return [
        (partial(_turn, quarters=turns, mirrored=mirrored), partial(_turn_back, quarters=turns, mirrored=mirrored))
        for mirrored in (False, True)
        for turns in quarters
    ]


def _turn(image: Tensor, *, quarters: int, mirrored: bool) -> Tensor:
    return torch.rot90(image.flip(-1) if mirrored else image, quarters, (-2, -1))


def _turn_back(image: Tensor, *, quarters: int, mirrored: bool) -> Tensor:
    turned = torch.rot90(image, -quarters, (-2, -1))
    return turned.flip(-1) if mirrored else turned


def ensemble_of(
    members: Sequence[nn.Module],
    *,
    kind: OutputKind,
    regression: bool,
    head: str | int | None,
    num_mc_samples: int | None,
    tta: bool,
    seed: int,
) -> Ensemble | None:
    """Return the ensemble of models for a kind of map, or `None` for a single prediction.

    Raises
    ------
    InputError
        If members differ, a kind of map has no mean, there are fewer than two samples of dropout, or the map is the
        uncertainty of a regression and there is a single prediction.
    """
    if num_mc_samples is not None and num_mc_samples < 2:
        msg = f"Cannot sample by dropout: num_mc_samples={num_mc_samples!r}."
        remedy = "Pass {num_mc_samples:20}, 2 or more."
        raise InputError(msg, remedy=remedy, value=num_mc_samples, argument="num_mc_samples")
    require_equal_cards(members)
    stage: Stage = "activated" if regression else kind.stage
    spread = kind.name == "uncertainty"
    if len(members) == 1 and not num_mc_samples and not tta:
        if spread and regression:
            msg = "Cannot compute the uncertainty of one prediction of a regression."
            remedy = "Pass {members}. Or pass {num_mc_samples:20}. Or pass {tta:True}."
            raise InputError(msg, remedy=remedy, argument="output")
        return None
    if stage not in _STAGES:
        msg = f"Cannot average {kind.name} over several predictions."
        remedy = f"Pass {{output:'{'regression' if regression else 'probabilities'}'}} or {{output:'uncertainty'}}."
        raise InputError(msg, remedy=remedy, value=kind.name, argument="output")
    return Ensemble(
        members,
        stage=stage,
        head=head,
        classes=not regression,
        spread=spread,
        num_mc_samples=num_mc_samples or 0,
        tta=tta,
        seed=seed,
    )


def distinct_members(model: nn.Module | None, members: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the members with `model` first, unless it is one of them."""
    if model is None:
        return list(members)
    digest = fingerprint(model)
    if any(member is model or fingerprint(member) == digest for member in members):
        return list(members)
    return [model, *members]


def require_equal_cards(members: Sequence[nn.Module]) -> None:
    """Raise if the model cards of members differ in task, bands or classes."""
    cards: list[Card | None] = [member.card if isinstance(member, Network) else None for member in members]
    for number, card in enumerate(cards):
        if (card is None) != (cards[0] is None):
            msg = f"Cannot average the members 0 and {number}: one of them has no model card."
            raise InputError(msg, remedy="Pass {members} that all have one, or none.", argument="members")
        for field, title in _COMPARED.items() if card is not None else ():
            first, other = getattr(cards[0], field), getattr(card, field)
            if first != other and not (field == "common_names" and () in {first, other}):
                msg = f"Cannot average the members 0 and {number}: their {title} are {first!r} and {other!r}."
                remedy = "Pass {members} of one task, trained on equal bands and classes."
                raise InputError(msg, remedy=remedy, value=other, argument="members")
