"""The data of a training: splits of a store, or the same samples computed live."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import joblib
import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from ocr.datasets.folder import ImageFolder
from ocr.datasets.live import LiveDataset
from ocr.datasets.loader import BatchLoader
from ocr.datasets.samples import ANNOTATIONS, TRAINING, SampleDataset, has_text
from ocr.datasets.store import StoreDataset
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.datasets.trim import check_trim
from ocr.inference.tiles import Tile, check_tile
from ocr_precompute.errors import StoreError
from ocr_precompute.format.schema import MAPS
from ocr_precompute.parameters import Parameters, RecipeName
from ocr_precompute.reading.store import CACHE_SIZE
from ocr_precompute.runtime.stages import stage
from ocr_precompute.settings import load_settings, parse_bytes, parse_size
from ocr_precompute.understood import warning_lines

_EVALUATION = ("image", *ANNOTATIONS)
_WINDOW = 16  # shards of 32 samples: a batch of 16 has seldom two of one shard
_SECRET = re.compile(r"secret|token|password|access_?key|account_?key|credential|sas", re.I)


class DetectionData(lightning.LightningDataModule):
    """Loaders for training, validation, test and prediction.

    Its state in a checkpoint is the data hash of what was trained on, and the place in the epoch: a
    training goes on with the same data in the same order, and there with the samples that are left.

    Args:
        store: Folder or URL of the store.
        train: Split to train on.
        val: Split to validate on, and to predict on if no images are given.
        test: Split to test on; that of val by default.
        size: Canonical size, N or HxW, that the store must have; by default any will do. Of
            images: the size they are brought to, by default that of the training.
        recipe: Label recipe that the store must have; by default any will do.
        live: Configuration of ocr-precompute; its splits are then computed from their source
            files sample by sample, and the store is not used.
        batch_size: Samples a batch of each process.
        trim: Leave out padding: batches of like samples, their height and width rounded up to
            this, a multiple of 32; 0 leaves it in. Has no effect where augmentation cuts crops
            or moves pixels.
        threads: Loader threads of each process; by default the machine's cores, divided by the
            processes that train on it.
        tune: Search, in the first few hundred batches of a training, for the number of loader
            threads, and of batches ahead, with which it is fastest, from `threads` on. Batches
            and their order stay as they are.
        seed: Decides order and augmentation of every epoch.
        augmentation: How training samples are varied.
        images: Folder of images to predict on, instead of the split val; no store is needed.
        skip_bad: Leave out images of that folder that cannot be read, instead of ending there.
        tile: Look at images of that folder by tiles of so many of their pixels a side; auto: those
            that are much longer than the size's shape; null: none.
        storage: Options of the service behind a URL, such as endpoint and region, and timeout,
            in seconds. Credentials belong into the environment.
        cache: Folder of a disk of this machine, in which shards of the store are kept, whole,
            and from which they are read; all processes of the machine share it.
        cache_size: Bytes that it may take, as in 500 MB or 50 GB.
        window: Shards whose samples are mixed, so that each shard is read once in an epoch; 0
            mixes all. By default 16 with a cache, and 0 without.
        overlap_transfers: Copy a batch to a GPU while it still computes the step before: from
            page-locked memory, on a stream of its own. Has no effect on a CPU.
    """

    def __init__(
        self,
        store: str = "data/store",
        train: str = "train",
        val: str = "val",
        test: str | None = None,
        size: int | str | None = None,
        recipe: RecipeName | None = None,
        live: str | None = None,
        batch_size: int = 8,
        trim: int = 64,
        threads: int | None = None,
        tune: bool = True,
        seed: int = 0,
        augmentation: Augmentation = Augmentation(),  # noqa: B008
        images: str | None = None,
        skip_bad: bool = False,
        tile: Tile = "auto",
        storage: dict[str, str | float] | None = None,
        cache: str | None = None,
        cache_size: int | str = CACHE_SIZE,
        window: int | None = None,
        overlap_transfers: bool = True,
    ) -> None:
        """Take the settings; nothing is opened before `setup`."""
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self._store, self._live, self._images = store, live, images
        self._from = _reading(storage or {}, cache, cache_size)
        self._window = window if window is not None else _WINDOW if cache else 0
        if self._window < 0:
            raise ValueError(f"window is {window}; it must be at least 1, or 0 for all shards")
        check_tile(tile)
        self._skip_bad, self._tile = skip_bad, tile
        self._splits = {"train": train, "val": val, "test": test or val}
        self._size = None if size is None else parse_size(size)
        self._recipe = recipe
        check_trim(trim)
        self._batch_size, self._trim, self._seed = batch_size, trim, seed
        self._threads, self._tune = threads, tune
        self._augmentation = augmentation
        self._overlap = overlap_transfers
        self._copies: torch.cuda.Stream | None = None  # where batches are copied to a GPU
        self._datasets: dict[str, SampleDataset] = {}
        self._loader: BatchLoader | None = None
        self._left_at: dict[str, int] | None = None
        self._trained_with: tuple[Any, Any] = (None, "exact")  # size and decode of a checkpoint

    def setup(self, stage: str) -> None:
        """Open what a stage needs.

        Raises StoreError or InputError if a split is missing, empty, or not what was asked for.
        """
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for role in needed.get(stage, ()):
            fields = (*TRAINING, "polygons", "ignore") if role == "train" else _EVALUATION
            self._datasets[role] = self._open(role, fields)
        if stage == "fit":
            self._check_text()
            self._say_what_is_odd()
        if stage == "predict" and self._images is None:
            self._datasets["predict"] = self._open("val", _EVALUATION)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, index: int) -> Any:
        """The batch, its maps on the device; annotations stay on the host, where they are used."""
        with stage("transfer"):
            maps = {field: value for field, value in batch.items() if field in MAPS}
            if not self._overlap or device.type != "cuda":
                return {**batch, **super().transfer_batch_to_device(maps, device, index)}
            if self._copies is None:
                self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(self._copies):
                moved = super().transfer_batch_to_device(maps, device, index)
            computing = torch.cuda.current_stream(device)
            computing.wait_stream(self._copies)
            for value in moved.values():
                value.record_stream(computing)  # its memory is not used again before that is done
            return {**batch, **moved}

    def _check_text(self) -> None:
        """Raises StoreError if nothing can be learnt; says so if nothing can be measured."""
        if not has_text(self._datasets["train"]):
            raise StoreError(
                f"{self._where('train')} holds no text to learn: there is none, or all of it is "
                "don't-care; annotate some, or build the split with a larger --size"
            )
        if not has_text(self._datasets["val"]):
            rank_zero_info(f"{self._where('val')} holds no text to find: its H-mean says nothing")

    def _say_what_is_odd(self) -> None:
        """What `build` warned of, so that it is seen before the first step."""
        one_split = self._splits["train"] == self._splits["val"]
        for role in ("train",) if one_split else ("train", "val"):
            dataset = self._datasets[role]
            if isinstance(dataset, StoreDataset):
                understood = dataset.split.manifest.understood
                for line in warning_lines(understood, dataset.parameters):
                    rank_zero_info(f"warning: {self._where(role)}: {line}")

    def _where(self, role: str) -> str:
        return f"{self._live or self._store}: split {self._splits[role]!r}"

    def _open(self, role: str, fields: tuple[str, ...]) -> SampleDataset:
        split, where = self._splits[role], self._where(role)
        dataset: SampleDataset
        if self._live is not None:
            dataset = LiveDataset.from_settings(load_settings(Path(self._live), {}), split, fields)
        else:
            dataset = StoreDataset(self._store, split, fields, **self._from)
        parameters = dataset.parameters
        if not len(dataset):
            raise StoreError(f"{where} holds no samples; annotate some images and build it again")
        if self._size not in (None, parameters.size):
            has = "x".join(map(str, parameters.size))
            wanted = "x".join(map(str, self._size or ()))
            raise StoreError(
                f"{where} is of size {has}, but data.size is {wanted}; "
                "correct data.size, or build the split with that --size"
            )
        if self._recipe not in (None, parameters.recipe.name):
            raise StoreError(
                f"{where} has labels of recipe {parameters.recipe.name}, but data.recipe is "
                f"{self._recipe}; correct data.recipe, or build the split with that --recipe"
            )
        return dataset

    @property
    def train_shape(self) -> tuple[tuple[int, int], int]:
        """Height and width of the images of a training batch, and how many there are."""
        return self._varied().parameters.size, self._batch_size

    def _varied(self) -> AugmentedDataset:
        return AugmentedDataset(self._datasets["train"], self._augmentation, seed=self._seed)

    def train_dataloader(self) -> BatchLoader:
        """Shuffled and varied batches, equally many for each process.

        Raises StoreError if there are fewer samples than processes.
        """
        dataset = self._varied()
        world = self.trainer.world_size if self.trainer else 1
        if len(dataset) < world:
            raise StoreError(
                f"{self._where('train')} holds too few samples ({len(dataset)}) for {world} "
                "processes; train with fewer --trainer.devices"
            )
        self._loader = BatchLoader(
            dataset,
            self._batch_size,
            shuffle=True,
            trim=self._trim,
            threads=self._threads,
            seed=self._seed,
            cores=self._own_cores(),
            tune=self._tune,
            window=self._window,
            pin_memory=None if self._overlap else False,
        )
        self._go_on()
        return self._loader

    def _go_on(self) -> None:
        """Give the loader its place, once both are there. Raises StoreError as load_state_dict."""
        if self._loader is None or self._left_at is None:
            return
        try:
            self._loader.load_state_dict(self._left_at)
        except ValueError as error:
            raise StoreError(
                f"{self._where('train')}: {error}; bring data and data.augmentation back to what "
                "they were, or start anew from the checkpoint's weights with --model.weights"
            ) from error

    def _own_cores(self) -> int:
        """The machine's, divided by the processes that train on it."""
        beside = self.trainer.num_devices if self.trainer else 1
        return max(1, int(joblib.cpu_count()) // beside)

    def val_dataloader(self) -> BatchLoader:
        """The split val, every sample once."""
        return self._in_order("val")

    def test_dataloader(self) -> BatchLoader:
        """The split test, every sample once."""
        return self._in_order("test")

    def predict_dataloader(self) -> BatchLoader:
        """The images to predict on, every one once.

        Those of a folder are seen as the training saw its own: the checkpoint says how.
        """
        if self._images is not None:
            self._datasets["predict"] = ImageFolder(
                self._images, self._seen_as(), skip_bad=self._skip_bad, tile=self._tile
            )
        return self._in_order("predict")

    def _seen_as(self) -> Parameters:
        size, decode = self._trained_with
        if self._size or size:
            return Parameters.model_validate({"size": self._size or size, "decode": decode})
        return self._open("val", _EVALUATION).parameters

    def _in_order(self, role: str) -> BatchLoader:
        return BatchLoader(
            self._datasets[role],
            self._batch_size,
            trim=self._trim,
            threads=self._threads,
            cores=self._own_cores(),
            window=self._window,
            pin_memory=None if self._overlap else False,
        )

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: the data hash of the training split, empty for live data; where the
        loader is; and the canonical size of the images and how they were decoded.
        """
        # Lightning keeps the state of loaders too, but does not give it back to those that were
        # made before the checkpoint was read, and the schedule of the learning rate needs one.
        loader = self._loader.state_dict() if self._loader is not None else None
        parameters = self._datasets["train"].parameters
        images = {"size": list(parameters.size), "decode": parameters.decode}
        return {"data_hash": self._data_hash(), "loader": loader, "images": images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was.

        Raises StoreError if a training cannot: with other data, or in another order.
        """
        images = state.get("images") or {}
        self._trained_with = images.get("size"), images.get("decode", "exact")
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        before, now = state.get("data_hash", ""), self._data_hash()
        left_at = state.get("loader") or {}
        samples = len(self._datasets["train"])
        anew = "or start anew from the checkpoint's weights with --model.weights"
        if before and now and before != now:
            raise StoreError(
                f"{self._where('train')} is not what the checkpoint was trained on (data hash "
                f"{now[:12]}, then {before[:12]}); bring that store back, {anew}"
            )
        if left_at.get("samples") != samples:
            raise StoreError(
                f"{self._where('train')} holds {samples} samples, but the checkpoint was trained "
                f"on {left_at.get('samples', 'an unknown number')}; bring those back, {anew}"
            )
        if left_at["seed"] != self._seed:
            raise StoreError(
                f"the checkpoint was trained with seed {left_at['seed']}, but data.seed is "
                f"{self._seed}, which gives another order; correct data.seed, {anew}"
            )
        self._left_at = left_at
        self._go_on()

    def _data_hash(self) -> str:
        train = self._datasets.get("train")
        return train.split.manifest.data_hash if isinstance(train, StoreDataset) else ""


def _reading(
    storage: Mapping[str, str | float], cache: str | None, cache_size: int | str
) -> dict[str, Any]:
    """How a store is read, as StoreDataset takes it. Raises ValueError for what cannot be.

    What a training is configured with is written into its run's folder.
    """
    if secret := [name for name in storage if _SECRET.search(name)]:
        raise ValueError(f"data.storage holds {secret[0]}; credentials belong into the environment")
    parse_bytes(cache_size)
    options = {name: str(value) for name, value in storage.items()}
    return {"options": options, "cache": cache, "cache_size": cache_size}
