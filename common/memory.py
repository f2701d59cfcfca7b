"""How much memory this process may still take."""

from pathlib import Path

import psutil
import torch

# (limit, in use) of a container's control group, of version 2 and of version 1
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device: of the machine, within a container's limit, or of a GPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    free = int(psutil.virtual_memory().available)
    for limit, used in CGROUPS:
        if Path(limit).is_file() and (most := Path(limit).read_text().strip()).isdecimal():
            free = min(free, max(0, int(most) - int(Path(used).read_text())))
    return free
