"""`FileBody`, the network in a model file; `FileNetwork`, the same with a model card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.card import Card
from geoxt.models.file_runtimes import Format, Runtime, runtime_of
from geoxt.models.network import Network
from geoxt.tasks import Output


class FileBody(nn.Module):
    """The network in a model file, without gradients and parameters.

    It holds the content of the file, so that it can be copied and pickled; each process loads it once per device.

    Parameters
    ----------
    content
        The file.
    file_format
        Its format.
    title
        Name of the file in errors.
    head
        Name or index of the output, if the model has several.
    """

    def __init__(self, content: bytes, file_format: Format, *, title: str, head: str | int | None = None) -> None:
        super().__init__()
        self._content = content
        self.digest = hashlib.sha256(content).hexdigest()  # determines the output: part of the fingerprint of a map
        self.file_format = file_format
        self.title = title
        self.head = head

    def runtime(self, device: torch.device | None = None) -> Runtime:
        """Return the loaded model on a device, by default the CPU."""
        return runtime_of(self._content, self.digest, self.file_format, device or torch.device("cpu"))

    def forward(self, images: Tensor) -> Tensor:
        """Return the output for images (N, …, C, H, W).

        Raises
        ------
        InputError
            If the shape of the images is not that of the model's input, or the model fails.
        """
        runtime = self.runtime(images.device)
        sizes = runtime.shape or (None,) * images.ndim
        self._require_shape(images, sizes)
        batch = sizes[0] or len(images)
        return torch.cat([self._run(runtime, part, batch) for part in torch.split(images, batch)])

    def _run(self, runtime: Runtime, images: Tensor, batch: int) -> Tensor:
        """Run the model on a batch, filled up to the batch size that the file fixes."""
        count = len(images)
        if count < batch:
            images = torch.cat([images, images.new_zeros(batch - count, *images.shape[1:])])
        try:
            with torch.no_grad():
                output = runtime.run(images)
        except Exception as error:  # onnxruntime and torch raise errors of many types
            reason = str(error).strip().partition("\n")[0]
            msg = f"Cannot run the model {self.title!r} on images of the shape {tuple(images.shape)}: {reason}."
            raise InputError(msg, remedy="Pass {size}, height and width for which it was made.") from error
        return self._select_output(output)[:count]

    def _require_shape(self, images: Tensor, sizes: tuple[int | None, ...]) -> None:
        if len(sizes) == images.ndim and all(
            size in (None, length) for size, length in zip(sizes[1:], images.shape[1:], strict=True)
        ):
            return
        shape = ", ".join("any" if size is None else str(size) for size in sizes[1:])
        msg = f"Cannot run the model {self.title!r} on images of the shape {tuple(images.shape[1:])}: its input is "
        fixed = sizes[-1] is not None and len(sizes) == images.ndim and sizes[-2:] != tuple(images.shape[-2:])
        remedy = f"Pass {{size:({sizes[-2]}, {sizes[-1]})}}." if fixed else "Pass images of that shape."
        raise InputError(f"{msg}({shape}).", remedy=remedy, value=tuple(images.shape), argument="size")

    def _select_output(self, output: Any) -> Tensor:
        outputs: Mapping[Any, Any] = {0: output} if isinstance(output, Tensor) else {}
        if isinstance(output, Mapping):
            outputs = output
        elif isinstance(output, (tuple, list)):
            outputs = dict(enumerate(output))
        head = next(iter(outputs)) if self.head is None and len(outputs) == 1 else self.head
        if isinstance(head, int) and 0 <= head < len(outputs):
            head = list(outputs)[head]
        if head not in outputs or not isinstance(outputs[head], Tensor):
            names = ", ".join(map(repr, outputs))
            output = "an output" if self.head is None else f"the output {self.head!r}"
            msg = f"Cannot take {output} of the model {self.title!r} with the outputs {names}."
            raise InputError(msg, remedy=f"Pass {{head}}, one of {names}.", value=self.head, argument="head")
        selected: Tensor = outputs[head]
        return selected


class FileNetwork(Network):
    """The network of a model file, with a model card.

    Parameters
    ----------
    card
        Model card.
    body
        The network in the file.
    scaled
        Whether it standardizes its input bands itself.
    activated
        Whether its output is after the activation: probabilities instead of logits.
    """

    def __init__(self, card: Card, body: FileBody, *, scaled: bool, activated: bool) -> None:
        super().__init__(card, body=body)
        self.scaled = scaled
        self.activated = activated

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the output for images, as `Network` does; one channel of two classes becomes two."""
        if not self.scaled:
            output = super().forward(image, valid)
        else:
            filled = image if valid is None else image.where(valid.unsqueeze(-3), self.mean)
            output = self.body(filled)
        if output.shape[1] == 1 and len(self.card.codes) == 2 and self.card.kind.is_categorical:
            # sigmoid(x) is the second value of softmax((0, x))
            output = torch.cat([1 - output if self.activated else torch.zeros_like(output), output], dim=1)
        return output

    def activate(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits; the output unchanged if it is already activated."""
        return logits if self.activated else super().activate(logits)

    def embed(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the output: the features of a model for embeddings."""
        return self(image, valid)

    def require_output(self, name: Output | None) -> None:
        """Raise if the file lacks an output.

        Raises
        ------
        InputError
            If logits are requested of a file of probabilities, or embeddings of a model for another task.
        """
        title = self.body.title
        if name == "logits" and self.activated:
            msg = f"Cannot predict logits with the model {title!r}: its output is after the activation."
            raise InputError(msg, remedy="Pass {output:'probabilities'}.", value=name, argument="output")
        if name == "embeddings" and self.card.kind.output != "embeddings":
            msg = f"Cannot predict embeddings with the model {title!r}: it was exported for {self.card.task}."
            raise InputError(msg, remedy="Pass the checkpoint as {model}.", value=name, argument="output")
