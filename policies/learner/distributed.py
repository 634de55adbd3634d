"""Training by several processes with the same batches, order and losses as by one, and whole weights at the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather
from torch.utils.data import DataLoader, Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import LengthGroupedSampler

from policies import PolicyError
from policies.weights import SHARD_SIZE


class SameBatches:
    """Mixed into a trainer: its batches are those of one process, each process taking its share of every batch.

    Left to themselves transformers groups items by the batch of one process, and accelerate completes the last batch
    with items that were seen already, so that several processes would learn from other batches.
    """

    def __init__(self: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if processes() > 1:
            # TRL gathers a figure per row, and processes may have different numbers of rows.
            self.accelerator.gather = self.accelerator.gather_for_metrics = _gather_rows

    def _get_train_sampler(self: Any, train_dataset: Any = None) -> LengthGroupedSampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        size = self.args.train_batch_size * self.args.gradient_accumulation_steps * processes()
        return LengthGroupedSampler(size, dataset=rows, lengths=rows[self.args.length_column_name])

    def get_train_dataloader(self: Any) -> Any:
        """transformers' own, or with several processes this one's shares."""
        if processes() == 1:
            return Trainer.get_train_dataloader(self)
        shares = _Shares(self._get_train_sampler(), self.args.train_batch_size * processes())
        return DataLoader(self.train_dataset, batch_sampler=shares, collate_fn=self.data_collator)


class _Shares(Sampler[list[int]]):  # type: ignore[misc]
    """This process's share of every batch.

    The order is the first process's: TRL seeds each process of GRPO differently. Where the last batch has fewer items
    than there are processes, those that would have none repeat its first.
    """

    def __init__(self, order: LengthGroupedSampler, size: int) -> None:
        self._order, self._size = order, size

    def __len__(self) -> int:
        return -(-len(self._order) // self._size)

    def __iter__(self) -> Iterator[list[int]]:
        drawn = [list(self._order)]
        torch.distributed.broadcast_object_list(drawn)
        rank = torch.distributed.get_rank()
        for start in range(0, len(drawn[0]), self._size):
            batch = drawn[0][start : start + self._size]
            yield batch[rank :: processes()] or batch[:1]


def _gather_rows(own: torch.Tensor) -> torch.Tensor:
    """The tensors of all processes in one, whose first dimensions may differ; accelerate's own needs equal shapes."""
    shapes: list[Any] = [None] * processes()
    torch.distributed.all_gather_object(shapes, tuple(own.shape))
    if len(set(shapes)) == 1:
        gathered_rows: torch.Tensor = gather(own)
        return gathered_rows
    parts: list[Any] = [None] * processes()
    torch.distributed.all_gather_object(parts, own.detach().cpu())
    return torch.cat(parts).to(own.device)


def processes() -> int:
    """Number of processes that train together; 1 outside of such a training."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def total(own: torch.Tensor) -> torch.Tensor:
    """The sum over the processes."""
    if processes() == 1:
        return own
    everywhere = own.detach().clone()
    torch.distributed.all_reduce(everywhere)
    return everywhere


def share_of_mean(own: torch.Tensor) -> float:
    """By what a mean over `own` things must be multiplied so that the processes' mean of it is the mean over all.

    A mean of means would give the things of a process with few of them more weight.
    """
    return float(own * processes() / total(own))


def gathered(own: list[Any], count: int) -> list[Any]:
    """Collect `count` results from all processes; each has those at its rank, rank + processes, and so on."""
    shares: list[Any] = [None] * processes()
    torch.distributed.all_gather_object(shares, own)
    return [shares[n % len(shares)][n // len(shares)] for n in range(count)]


def sharding_options(model: Any) -> dict[str, Any]:
    """transformers' arguments for FSDP2. Raises PolicyError if the model names no layers that can be sharded."""
    layers = sorted(layers_to_shard(model))
    if not layers:
        raise PolicyError(
            f"learner.strategy = 'fsdp2': {type(model).__name__} names no layers to shard; take strategy = 'ddp'"
        )
    return {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": layers}}


def layers_to_shard(model: Any) -> set[str]:
    """The classes of the model's repeated layers."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return {type(layer).__name__ for each in lists for layer in each}


def shared_out(model: Any) -> str:
    """A line that says how many of the model's parameters the processes really shard."""
    from torch.distributed.tensor import DTensor

    parameters = list(model.parameters())
    shared = sum(isinstance(parameter, DTensor) for parameter in parameters)
    return f"FSDP2: {shared} of {len(parameters)} parameters are shared out among {processes()} processes"


def shard_on_cpu(arguments: Any) -> None:
    """Let accelerate shard on CPUs too. accelerate 1.15 knows FSDP for accelerators only and trains with DDP instead.

    To be called after the trainer's arguments were made, which reset accelerate's state, and before the trainer.
    """
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, TorchDynamoPlugin

    if arguments.device.type != "cpu":
        return
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    state = AcceleratorState(cpu=True, fsdp_plugin=plugin, dynamo_plugin=TorchDynamoPlugin(), _from_accelerator=True)
    state.fsdp_plugin = plugin
    PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def save_whole(model: Any, directory: Path) -> None:
    """Gather the model's weights and write them, from the first process; all processes must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = get_model_state_dict(model, options=options)
    if torch.distributed.get_rank() == 0:
        # A tied output layer comes under two names, and is written once.
        if getattr(model.config.get_text_config(), "tie_word_embeddings", False):
            for name in getattr(model, "_tied_weights_keys", None) or ():
                state.pop(name, None)
        model.save_pretrained(directory, state_dict=state, max_shard_size=SHARD_SIZE)
    torch.distributed.barrier()
