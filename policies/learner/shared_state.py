"""State that processes training together share: gathered by the first one, and given out by it again.

Tensors go one at a time, so that no other process ever holds a whole model that it has a share of (FSDP2). Nothing is
read from a disk but the first process's: the others may be on other nodes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from policies.learner.distributed import processes


def is_first() -> bool:
    """Whether this process is the first one, or the only one."""
    return processes() == 1 or torch.distributed.get_rank() == 0


def from_first(value: Any) -> Any:
    """The first process's value in every process; for small things."""
    if processes() == 1:
        return value
    held = [value]
    torch.distributed.broadcast_object_list(held)
    return held[0]


def collect_files(folder: Path) -> None:
    """Bring the files of the other processes' folders into the first one's; for small files of different names."""
    if processes() == 1:
        return
    own = {} if is_first() else _contents(folder)
    everywhere: list[Any] = [None] * processes()
    torch.distributed.all_gather_object(everywhere, own)
    if is_first():
        for contents in everywhere:
            _write(folder, contents)


def hand_out_files(folder: Path | None, to: Path, without: tuple[str, ...]) -> Path | None:
    """Give the files of the first process's folder to the others, which write them into a folder of that name in `to`.

    Returns each process's own folder, None where the first one has none.
    """
    if processes() == 1:
        return folder
    name, contents = from_first((folder.name, _contents(folder, without)) if folder is not None else ("", {}))
    if is_first() or not name:
        return folder
    (to / name).mkdir(parents=True, exist_ok=True)
    _write(to / name, contents)
    return Path(to / name)


def _contents(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name not in without}


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def save_tensors(named: Mapping[str, torch.Tensor], file: Path) -> None:
    """Write whole tensors from the first process; all processes must call it."""
    whole = {name: _whole(value) for name, value in named.items()}
    if is_first():
        save_file({name: value for name, value in whole.items() if value is not None}, file)


def load_tensors(named: Mapping[str, torch.Tensor], file: Path) -> None:
    """Read the first process's file into these tensors in place, each process its share."""
    reader: Any = safe_open(file, "pt") if is_first() else None
    with torch.no_grad():
        for name in from_first(None if reader is None else list(reader.keys())):
            own = named[name]
            given = _given_out(None if reader is None else reader.get_tensor(name), own.device)
            own.copy_(given if (layout := _layout(own)) is None else _share(given, own.device_mesh, layout))


def save_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Write the optimizer's whole state from the first process; all processes must call it."""
    held = optimizer.state_dict()
    layouts = {n: {name: _layout(value) for name, value in own.items()} for n, own in held["state"].items()}
    state = {n: {name: _whole(value) for name, value in own.items()} for n, own in held["state"].items()}
    if is_first():
        torch.save({"state": state, "layouts": layouts, "param_groups": held["param_groups"]}, file)


def load_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Read the first process's file into the optimizer, each process its share."""
    held = torch.load(file, map_location="cpu", weights_only=True) if is_first() else {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for n, layouts in from_first(held.get("layouts")).items():
        for name, layout in layouts.items():
            given = _given_out(held["state"][n][name] if is_first() else None, parameters[n].device)
            if layout is not None:
                given = _share(given, parameters[n].device_mesh, layout)
            state.setdefault(n, {})[name] = given
    optimizer.load_state_dict({"state": state, "param_groups": from_first(held.get("param_groups"))})


def _whole(value: Any) -> Any:
    """The whole tensor in the first process's memory, None in the others; all must call it. What is none stays."""
    if not isinstance(value, torch.Tensor):
        return value
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    return whole.detach().cpu() if is_first() else None


def _given_out(value: Any, device: torch.device) -> Any:
    """The first process's tensor, or whatever it is, in every process."""
    is_tensor = isinstance(value, torch.Tensor)
    kind, other = from_first(((tuple(value.shape), value.dtype), None) if is_tensor else (None, value))
    if kind is None:
        return other
    shape, dtype = kind
    tensor = value.to(device) if is_first() else torch.empty(shape, dtype=dtype, device=device)
    if processes() > 1:
        torch.distributed.broadcast(tensor, 0)
    return tensor


def _layout(value: Any) -> list[int | None] | None:
    """By which dimension each dimension of the processes shares a tensor out, None for not at all."""
    if not isinstance(value, DTensor):
        return None
    return [placement.dim if isinstance(placement, Shard) else None for placement in value.placements]


def _share(whole: torch.Tensor, mesh: Any, layout: list[int | None]) -> torch.Tensor:
    """This process's share of a whole tensor."""
    placements = [Replicate() if dimension is None else Shard(dimension) for dimension in layout]
    return distribute_tensor(whole, mesh, placements, src_data_rank=None)
