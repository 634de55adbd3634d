"""Two nodes on one machine: each has network, files and Ray of its own, and only Ray goes between them."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.command_line import BASE_MODEL, PROJECT, command
from tests.support.real_runs import SMALL_EASY_VQA, poll, query, write_recipe

HEAD, SECOND, PORT = "10.77.13.1", "10.77.13.2", 6399
NAMESPACE = "ratchet-test"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"),
        reason="network and mount namespaces need root, ip and unshare",
    ),
]


def ray(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", *map(str, arguments)]


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """The head, and the process of the second node, which sees neither the run directory nor the model."""
    for line in (
        f"ip netns add {NAMESPACE}",
        "ip link add rtn0 type veth peer name rtn1",
        f"ip link set rtn1 netns {NAMESPACE}",
        f"ip addr add {HEAD}/24 dev rtn0",
        "ip link set rtn0 up",
        f"ip netns exec {NAMESPACE} ip addr add {SECOND}/24 dev rtn1",
        f"ip netns exec {NAMESPACE} ip link set rtn1 up",
        f"ip netns exec {NAMESPACE} ip link set lo up",
    ):
        subprocess.run(line.split(), check=True)
    # Both nodes must be told to use a token, whether one is there or not.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    token = secrets.token_hex(32)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    # /tmp holds the run, Ray's sessions and what is fetched.
    hidden = f"mount -t tmpfs none /tmp && mount -t tmpfs none {BASE_MODEL} && exec "
    start = ray("start", f"--address={HEAD}:{PORT}", f"--node-ip-address={SECOND}", "--num-cpus=1", "--block")
    try:
        head = ray("start", "--head", f"--node-ip-address={HEAD}", f"--port={PORT}", "--num-cpus=1")
        subprocess.run([*head, "--include-dashboard=false"], check=True, stdout=subprocess.DEVNULL)
        words = ["ip", "netns", "exec", NAMESPACE, "unshare", "-m", "sh", "-c", hidden + " ".join(start)]
        second = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)
        yield second
    finally:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                # Ray's processes of this cluster alone: other tests have theirs at the same time.
                if process.pid != os.getpid() and process.environ().get("RAY_AUTH_TOKEN") == token:
                    process.kill()
        subprocess.run(["ip", "link", "del", "rtn0"], check=False)
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_passes_on_two_nodes_and_when_the_second_is_lost(
    two_nodes: "subprocess.Popen[bytes]", tmp_path: Path, *, lost: bool
) -> None:
    recipe, run_dir = write_recipe(tmp_path, SMALL_EASY_VQA), tmp_path / "run"
    settings = ("--set", "engine.replicas=2", "--set", f"cluster.address={HEAD}:{PORT}")
    words = command("run", "--config", recipe, "--run-dir", run_dir, *settings)
    # A new interpreter: in a forked one that had imported Ray before there was a token Ray sends none.
    running = subprocess.Popen(words, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 400
    while running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.3)
        if lost and poll(run_dir, "SELECT 1 FROM sample WHERE round = 1 AND author = 'policy' LIMIT 1"):
            os.killpg(two_nodes.pid, signal.SIGKILL)
            for process in psutil.process_iter(["cmdline"]):
                if SECOND in " ".join(process.info["cmdline"] or ()):
                    process.kill()
            lost = False
    _, said = running.communicate(timeout=300)
    assert running.returncode == 0, said[-3000:]
    assert query(run_dir, "SELECT count(*) FROM sample WHERE round = 1 AND author = 'policy'") == [(1200,)]
    assert query(run_dir, "SELECT min(chains) > 0 FROM engine") == [(1,)]
