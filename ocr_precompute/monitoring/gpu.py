"""GPUs as NVIDIA's driver sees them; none where it, or its Python package, is missing or fails."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ocr_precompute.errors import one_line
from ocr_precompute.monitoring.resources import Gpu
from ocr_precompute.runtime.forks import undisturbed

log = logging.getLogger(__name__)


class NoGpus:
    """The twin for a run that uses none."""

    def read(self) -> tuple[Gpu, ...]:
        """None."""
        return ()

    def close(self) -> None:
        """Nothing is open."""


class Gpus(NoGpus):
    """Some GPUs of this machine. Any failure of the driver is logged, and there are none then."""

    def __init__(self, uuids: Sequence[str] | None = None) -> None:
        """uuids: of the GPUs, as in GPU-8a56a4bc-...; None: all of the machine."""
        self._nvml: Any = None
        self._handles: list[tuple[str, Any]] = []
        try:
            with undisturbed:
                import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            if uuids is None:
                count = range(pynvml.nvmlDeviceGetCount())
                found = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in count]
            else:
                found = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
            self._handles = [(str(pynvml.nvmlDeviceGetIndex(each)), each) for each in found]
        except Exception as error:  # whatever a driver may be wrong with
            self._give_up(error)

    def read(self) -> tuple[Gpu, ...]:
        """Each GPU as it is now."""
        try:
            return tuple(self._read(name, handle) for name, handle in self._handles)
        except Exception as error:
            self._give_up(error)
            return ()

    def _read(self, name: str, handle: Any) -> Gpu:
        busy = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
        return Gpu(name, busy, memory.used, memory.total)

    def close(self) -> None:
        """Let go of the driver."""
        nvml, self._nvml, self._handles = self._nvml, None, []
        if nvml is None:
            return
        try:
            nvml.nvmlShutdown()
        except Exception as error:
            log.debug("NVML: %s", one_line(error))

    def _give_up(self, error: Exception) -> None:
        log.debug("GPUs are not looked at: %s", one_line(error))
        self.close()
