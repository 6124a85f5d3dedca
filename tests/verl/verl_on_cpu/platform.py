"""The CPU as a platform of verl's. Ray's GPUs are logical then: `ray.init(num_gpus=2)` needs no hardware."""

import contextlib

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


class CpuModule:
    """`torch.cpu` with what verl reads of `torch.cuda`: no memory statistics, one random state."""

    def __getattr__(self, name):
        return getattr(torch.cpu, name)

    @staticmethod
    def nothing(*args, **kwargs):
        pass

    empty_cache = synchronize = set_device = ipc_collect = nothing
    set_per_process_memory_fraction = reset_peak_memory_stats = nothing

    @staticmethod
    def zero(*args, **kwargs):
        return 0

    max_memory_allocated = max_memory_reserved = memory_allocated = memory_reserved = zero

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def mem_get_info(*args):
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    @staticmethod
    def get_device_name(*args):
        return "CPU"

    @staticmethod
    def get_rng_state(*args):
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state, *args):
        torch.set_rng_state(state)

    @staticmethod
    def manual_seed(seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """Chosen by `VERL_PLATFORM=cpu`."""

    device_module = CpuModule()
    device_name = vendor_name = "cpu"

    def is_available(self):
        return True

    def current_device(self):
        return torch.device("cpu")

    def device_count(self):
        return 1

    def set_device(self, index):
        pass

    def synchronize(self, index=None):
        pass

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def set_allocator_settings(self, settings):
        pass

    def empty_cache(self):
        pass

    def get_device_capability(self, index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, message):
        return contextlib.nullcontext()

    def profiler_start(self):
        pass

    def profiler_stop(self):
        pass

    def ray_resource_name(self):
        return "GPU"

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False

    def cudart(self):
        return None
