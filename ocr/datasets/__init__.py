"""Datasets of canonical samples, stored or live, and the loader that makes batches of them."""

from ocr.datasets.live import LiveDataset
from ocr.datasets.loader import BatchLoader
from ocr.datasets.samples import SampleDataset
from ocr.datasets.store import StoreDataset
from ocr.datasets.under_way import SampleError

__all__ = ["BatchLoader", "LiveDataset", "SampleDataset", "SampleError", "StoreDataset"]
