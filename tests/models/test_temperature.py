"""The temperature of a model card divides logits, and is absent from cards of earlier versions."""

import pytest
import torch

from geoxt.errors import InputError
from geoxt.inference.fingerprint import fingerprint
from geoxt.models import Card, Network


def make_card(task="segmentation", **options):
    return Card(
        task=task, model="fcn", options={"width": 2, "layers": 1}, bands=("red",), mean=(0.0,), std=(1.0,),
        codes=(1, 2, 3), names=("a", "b", "c"), colors=(), size=(8, 8), **options,
    )  # fmt: skip


def test_logits_are_divided_by_the_temperature():
    logits = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(Network(make_card(temperature=2.5)).activate(logits), (logits / 2.5).softmax(1))
    assert torch.equal(Network(make_card()).activate(logits), logits.softmax(1))
    values = Network(make_card("pixelwise-regression", temperature=2.5)).activate(logits)
    assert torch.equal(values, logits)


def test_temperature_is_stored_and_optional():
    card = make_card(temperature=2.5)
    assert Card.from_dict(card.to_dict()) == card
    fields = card.to_dict()
    del fields["temperature"]
    assert Card.from_dict(fields) == make_card()


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_invalid_temperatures_raise(temperature):
    with pytest.raises(InputError, match="temperature"):
        make_card(temperature=temperature)


def test_fingerprints_differ_by_temperature():
    assert fingerprint(Network(make_card())) == fingerprint(Network(make_card()))
    assert fingerprint(Network(make_card())) != fingerprint(Network(make_card(temperature=2.0)))
