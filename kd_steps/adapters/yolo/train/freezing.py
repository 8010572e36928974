"""Layers that a training leaves as they are: the first ones for good, or all but the head for some epochs."""

from __future__ import annotations

from torch import nn
from ultralytics.nn.modules import block
from ultralytics.nn.tasks import DetectionModel

# Cross-stage-partial blocks of the YOLO families; C3k2, C2fCIB, C3Ghost, ELAN1 and so on are subclasses of these.
CSP_BLOCKS = (
    block.BottleneckCSP,
    block.C1,
    block.C2,
    block.C2f,
    block.C2fAttn,
    block.C3,
    block.A2C2f,
    block.RepC3,
    block.RepNCSPELAN4,
)


class FreezingError(ValueError):
    """The model cannot be frozen as asked; the message names the key and what the model has."""


def frozen_layers(model: DetectionModel, layers: int, blocks: int) -> int:
    """How many first layers are kept as they are.

    Args:
        model: the detector.
        layers: ``freeze_layers``: first layers.
        blocks: ``freeze_blocks``: first CSP blocks of the backbone; each with all that comes before it.

    Raises:
        FreezingError: the backbone has fewer blocks, or nothing would be left to train.
    """
    backbone = model.model[: len(model.yaml["backbone"])]
    found = [number for number, layer in enumerate(backbone) if isinstance(layer, CSP_BLOCKS)]
    if blocks > len(found):
        raise FreezingError(
            f"freeze_blocks: {blocks}, but the backbone has {len(found)} CSP block(s), as layers {found}; "
            f"ask for at most {len(found)}, or count layers with freeze_layers"
        )
    count = max(layers, found[blocks - 1] + 1 if blocks else 0)
    if count >= len(model.model):
        raise FreezingError(
            f"freeze_layers: {count} leaves nothing to train, the model has {len(model.model)} layers and the last is "
            f"its head; ask for at most {len(model.model) - 1}"
        )
    return count


def require_gradient_at_the_neck(model: DetectionModel, frozen: int, head_only_epochs: int, epochs: int) -> None:
    """Refuse to calibrate terms by their gradients at a neck that none ever reaches.

    Args:
        model: the detector.
        frozen: first layers that are kept as they are.
        head_only_epochs: first epochs in which the head trains alone.
        epochs: of the training.

    Raises:
        FreezingError: all but the head stays frozen.
    """
    if frozen >= len(model.model) - 1 or head_only_epochs >= epochs:
        raise FreezingError(
            "calibrate_batches: terms are measured by their gradient at the neck, and all before the head is frozen "
            "(freeze_layers, freeze_blocks, head_only_epochs); set calibrate_batches: 0, or freeze less"
        )


class HeadOnly:
    """Trains the head alone in the first epochs of a training.

    Args:
        model: the detector in training; what is frozen already stays frozen.
        epochs: how many first epochs.
    """

    def __init__(self, model: DetectionModel, epochs: int) -> None:
        self.epochs = epochs
        self.body = model.model[:-1]
        self.trainable = [weight for weight in self.body.parameters() if weight.requires_grad]

    def start_epoch(self, epoch: int) -> None:
        """Freeze or free the layers before the head; to be called when the model has just been put in training mode."""
        alone = epoch < self.epochs
        for weight in self.trainable:
            weight.requires_grad_(not alone)
        if alone:
            for module in self.body.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()  # its running statistics stay, too
