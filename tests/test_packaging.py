"""What a user installs: its files, its names, its command; and what the checkout holds.

The archives are built from a copy of the checkout, so that nothing left over from an
earlier build can slip into them, and nothing is left behind.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDERS: Final = ("actors", "estimators", "messages", "runtime")
OPTIONAL: Final = ("runtime/qmtl_bridge",)
"""Packages inside the folders that need an extra to be imported."""
LEFTOVERS: Final = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist"
)
HAS_COMMAND: Final = (ROOT / "runtime" / "cli.py").is_file()

needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="not a git checkout",
)


class Archives(NamedTuple):
    """One build's outcome."""

    wheel: Path
    sdist: Path


class Installation(NamedTuple):
    """An environment with the wheel in it, and nothing of the checkout."""

    scripts: Path
    elsewhere: Path

    def run(
        self, program: str, *args: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.scripts / program, *args],
            cwd=cwd or self.elsewhere,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def python(self, code: str) -> str:
        done = self.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COV_", "COVERAGE_"))
    }


def run_tool(*command: str | Path) -> None:
    done = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def installed_files_wanted() -> set[str]:
    """Name every file of ours that belongs in site-packages."""
    own = ROOT / "beta_factory"
    wanted = {f"beta_factory/{path.name}" for path in own.iterdir() if path.is_file()}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            hidden = path.name.startswith(".") or "__pycache__" in path.parts
            if path.is_file() and not hidden:
                wanted.add(f"beta_factory/{path.relative_to(ROOT).as_posix()}")
    return wanted


def files_of_the_checkout() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Build an sdist from a copy of the checkout, and a wheel from that sdist."""
    copy = tmp_path_factory.mktemp("source") / "checkout"
    out = tmp_path_factory.mktemp("archives")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFTOVERS)
    run_tool(
        sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)
    )
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return Archives(wheel, sdist)


@pytest.fixture(scope="module")
def installation(
    archives: Archives, tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    """Install the wheel by itself, its dependencies lent by the running environment."""
    home = tmp_path_factory.mktemp("installed") / "env"
    venv.create(home, symlinks=os.name != "nt")
    paths = sysconfig.get_paths(
        scheme="venv", vars={"base": str(home), "platbase": str(home)}
    )
    interpreter = Path(paths["scripts"], "python")
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install"]
    run_tool(*pip, "--quiet", "--no-deps", "--no-index", archives.wheel)
    # Only the path itself is added: the hooks of the checkout's own editable
    # installation live in .pth files there, and those are not followed.
    lent = sysconfig.get_path("purelib")
    Path(paths["purelib"], "lent.pth").write_text(lent + "\n", encoding="utf-8")
    return Installation(
        scripts=Path(paths["scripts"]), elsewhere=tmp_path_factory.mktemp("elsewhere")
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_link_shows_the_folder(folder: str) -> None:
    link = ROOT / "beta_factory" / folder

    assert link.is_symlink()
    assert link.readlink() == Path("..", folder)
    assert link.is_dir()


@pytest.mark.slow
@pytest.mark.integration
def test_wheel_holds_every_module_under_one_name_and_nothing_else(
    archives: Archives,
) -> None:
    with zipfile.ZipFile(archives.wheel) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}

    info = f"hft_beta_factory-{metadata.version('hft-beta-factory')}.dist-info/"
    ours = {name for name in names if not name.startswith(info)}
    assert ours == installed_files_wanted()
    assert "beta_factory/py.typed" in ours
    packages = (*FOLDERS, *OPTIONAL)
    assert {f"beta_factory/{folder}/__init__.py" for folder in packages} <= ours
    assert f"{info}licenses/LICENSE" in names


@pytest.mark.slow
@pytest.mark.integration
def test_sdist_holds_what_the_wheel_is_built_from(archives: Archives) -> None:
    with tarfile.open(archives.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    sources = {
        name.removeprefix("beta_factory/") if name.split("/")[1] in FOLDERS else name
        for name in installed_files_wanted()
    }
    assert sources | {"LICENSE", "README.md", "pyproject.toml"} <= names


@pytest.mark.slow
@pytest.mark.integration
def test_installed_packages_import_from_anywhere(installation: Installation) -> None:
    imports = "; ".join(f"import beta_factory.{folder}" for folder in FOLDERS)

    origin = installation.python(f"{imports}; print(beta_factory.__file__)")

    assert Path(origin).is_relative_to(installation.scripts.parent)


@pytest.mark.slow
@pytest.mark.integration
def test_installed_version_is_the_project_version(installation: Installation) -> None:
    version = installation.python(
        "import beta_factory; print(beta_factory.__version__)"
    )

    assert version == metadata.version("hft-beta-factory")


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("folder", FOLDERS)
def test_bare_folder_name_is_not_installed(
    folder: str, installation: Installation
) -> None:
    done = installation.run("python", "-c", f"import {folder}")

    assert done.returncode != 0
    assert f"No module named '{folder}'" in done.stderr


@pytest.mark.slow
@pytest.mark.integration
def test_strategy_modules_of_the_same_names_do_not_disturb_the_import(
    installation: Installation, tmp_path: Path
) -> None:
    for folder in FOLDERS:
        (tmp_path / f"{folder}.py").write_text("raise AssertionError\n", "utf-8")

    imports = "; ".join(f"import beta_factory.{folder}" for folder in FOLDERS)
    done = installation.run("python", "-c", imports, cwd=tmp_path)

    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(not HAS_COMMAND, reason="runtime/cli.py is not there yet")
@pytest.mark.parametrize(
    "command", [("beta-factory",), ("python", "-m", "beta_factory")], ids=" ".join
)
def test_installed_command_answers_help(
    command: tuple[str, ...], installation: Installation
) -> None:
    done = installation.run(*command, "--help")

    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@needs_git
def test_no_file_names_the_host_of_a_package_registry() -> None:
    hosts = [
        r"pypi\.(org|io)",
        r"pythonhosted\.org",
        r"npmjs\.(org|com)",
        r"deb\.debian\.org",
        r"proxy\.golang\.org",
        r"crates\.io",
    ]
    named = re.compile("|".join(hosts).encode())

    offenders = [
        str(path.relative_to(ROOT))
        for path in files_of_the_checkout()
        if named.search(path.read_bytes())
    ]

    assert offenders == []
