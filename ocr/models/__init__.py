"""DBNet in plain PyTorch: network, loss, post-processing, activation checkpointing."""

from ocr.models.dbnet import BACKBONES, DBNet, DBOutput
from ocr.models.loss import DBLoss, Losses
from ocr.models.postprocess import Detections, PostProcess

__all__ = ["BACKBONES", "DBLoss", "DBNet", "DBOutput", "Detections", "Losses", "PostProcess"]
