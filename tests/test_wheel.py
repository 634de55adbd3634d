"""The wheel: it holds the four packages and nothing beside them, and runs where there is no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.command_line import PROJECT

pytestmark = pytest.mark.heavy

PACKAGES = ("loop", "policies", "judges", "store")
SHIPPED = ("configs", "models")
NOT_BUILT_FROM = shutil.ignore_patterns(".*", "runs", "site", "shared", "build", "dist", "*.egg-info", "__pycache__")


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a program that sees nothing of the checkout; return its output."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the checkout, so that nothing is left in this one."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT, folder / "checkout", ignore=NOT_BUILT_FROM)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(sys.executable, *build, "--wheel-dir", folder, ".", cwd=folder / "checkout")
    (made,) = folder.glob("*.whl")
    return made


def files_below(*folders: str) -> set[str]:
    """The files in these folders of the checkout."""
    paths = (path for folder in folders for path in (PROJECT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(PROJECT)) for path in paths if path.parent.name != "__pycache__"}


def test_the_wheel_has_all_files_of_the_packages_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    name = "-".join(wheel.name.split("-")[:2])
    shared = f"{name}.data/data/share/ratchet/"
    packed = {each for each in names if not each.startswith(f"{name}.dist-info/")}
    data = {each.removeprefix(shared) for each in packed if each.startswith(shared)}
    assert data == files_below(*SHIPPED)
    assert {each for each in packed if not each.startswith(shared)} == files_below(*PACKAGES) | {
        "ratchet_error.py",
        "run_loop.py",
    }


def install(wheel: Path, python: Path | str, *options: object) -> None:
    """Without what it depends on."""
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, *options, wheel, cwd=wheel.parent)


def test_an_installed_ratchet_runs_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    site_packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    # What Ratchet depends on is there already: the packages of the environment that runs this test.
    (site_packages / "locked.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install(wheel, python)
    ratchet = environment / "bin" / "ratchet"
    plan = run(ratchet, "run", "--config", "easy_vqa", "--dry-run", cwd=elsewhere)
    assert f'model = "{environment.resolve()}/share/ratchet/models/shapes_2m"' in plan
    assert "before it can run" not in plan
    assert "a run can start here" in run(ratchet, "doctor", cwd=elsewhere)


def test_a_ratchet_in_a_folder_of_its_own_finds_its_files(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    install(wheel, sys.executable, "--target", target)
    plan = run(
        sys.executable,
        "-m",
        "run_loop",
        "run",
        "--config",
        "easy_vqa",
        "--dry-run",
        cwd=tmp_path,
        PYTHONPATH=str(target),
    )
    assert f'model = "{target.resolve()}/share/ratchet/models/shapes_2m"' in plan
    assert "before it can run" not in plan


def locked(python: Path) -> None:
    """The locked packages, as `make setup` installs them."""
    pip = (python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps")
    run(*pip, "-r", PROJECT / "requirements" / "torch-cpu.txt", cwd=PROJECT)
    run(*pip, "--require-hashes", "-r", PROJECT / "requirements" / "cpu.txt", cwd=PROJECT)


SMALL = (
    *("questions.train_limit=300", "cold_start.rationales=64", "cold_start.direct_items=0", "cold_start.epochs=1"),
    *("sampling.questions=20", "sampling.samples=2", "evaluation.limit=20", "gate.limit=20", "fallback.questions=0"),
)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(PROJECT, folder / "checkout", ignore=NOT_BUILT_FROM)
    build = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    run(sys.executable, "-c", build, cwd=folder / "checkout")
    (made,) = folder.glob("*.tar.gz")
    return made


def test_a_wheel_built_from_the_sdist_is_the_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    build = (
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        tmp_path,
    )
    run(sys.executable, *build, sdist, cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")

    def contents(path: Path) -> dict[str, bytes]:
        with zipfile.ZipFile(path) as content:
            return {name: content.read(name) for name in content.namelist() if not name.endswith("/RECORD")}

    assert contents(again) == contents(wheel)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_wheel_and_sdist_run_in_an_empty_environment(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    """With nothing of this one: the locked packages are installed anew, then the wheel, then the sdist over it."""
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    python, ratchet = environment / "bin" / "python", environment / "bin" / "ratchet"
    locked(python)
    for made in (wheel, sdist):
        options = () if made is wheel else ("--no-build-isolation", "--force-reinstall")
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", *options, made, cwd=elsewhere)
        assert run(ratchet, "--version", cwd=elsewhere).startswith("ratchet ")
        settings = [word for setting in SMALL for word in ("--set", setting)]
        run_dir = elsewhere / made.name
        run(ratchet, "run", "--config", "easy_vqa", "--run-dir", run_dir, "--rounds", 1, *settings, cwd=elsewhere)
        assert "round" in run(ratchet, "log", run_dir, cwd=elsewhere)
