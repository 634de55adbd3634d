"""Configuration tables for this machine: engines, cluster, weights kept on disk, trackers."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from loop.config.table import ConfigTable


class RetentionConfig(ConfigTable):
    """`[retention]`: which policies' weights stay on disk besides serving policy, its parent and the best."""

    keep_every: PositiveInt = 10


class TrackingConfig(ConfigTable):
    """`[tracking]`: where figures are sent besides the store, by transformers' names; nowhere unless asked."""

    report_to: list[Literal["tensorboard", "trackio", "wandb"]] = []
    project: str = Field("ratchet", min_length=1)
    name: str | None = Field(None, min_length=1)


class EngineConfig(ConfigTable):
    """`[engine]`: vLLM's options for this machine."""

    max_model_len: PositiveInt | None = None
    max_num_seqs: PositiveInt = 128
    kv_cache_gib: PositiveFloat | None = None
    gpu_memory_utilization: float = Field(0.45, gt=0.0, le=1.0)
    tensor_parallel_size: PositiveInt = 1
    replicas: PositiveInt | Literal["auto"] = 1
    swap_seconds: PositiveFloat = 600.0
    enforce_eager: bool = False
    probe_tolerance: PositiveFloat = 0.02
    sleep: Literal[0, 1, 2] = 0


class ClusterConfig(ConfigTable):
    """`[cluster]`: where engines run; without an address on this machine."""

    address: str | None = Field(None, min_length=1)
    shared_files: bool = False
