"""DBNet in plain PyTorch: network, loss, activation checkpointing."""

from ocr.models.dbnet import BACKBONES, DBNet, DBOutput
from ocr.models.loss import DBLoss, Losses

__all__ = ["BACKBONES", "DBLoss", "DBNet", "DBOutput", "Losses"]
