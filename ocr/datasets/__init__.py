"""Datasets of canonical samples, stored or live, and the loader that makes batches of them."""

from ocr.datasets.live import LiveDataset
from ocr.datasets.loader import BatchLoader, SampleError
from ocr.datasets.samples import SampleDataset
from ocr.datasets.store import StoreDataset

__all__ = ["BatchLoader", "LiveDataset", "SampleDataset", "SampleError", "StoreDataset"]
