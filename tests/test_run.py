"""run.py sets up once, starts over after a broken set-up, and says what is wrong. No test here uses the network."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
# Stands for pip and venv: notes its arguments, makes a .venv as `python -m venv` would, and fails where told to.
PROGRAM = """#!{python}
import os, pathlib, sys
with open({calls!r}, "a") as calls:
    print(" ".join(sys.argv[1:]), file=calls)
if os.environ.get("FAIL_AT", "nothing") in sys.argv:
    sys.exit("ERROR: no route to host")
if sys.argv[1:3] == ["-m", "venv"]:
    made = pathlib.Path(sys.argv[3], "bin", "python")
    made.parent.mkdir(parents=True)
    made.symlink_to({program!r})
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A fresh copy of run.py as a module, in a folder of its own, with stand-ins for Python, uv and `exec`."""
    for name in ("run.py", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    spec = importlib.util.spec_from_file_location("run_copy", tmp_path / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.calls, program = tmp_path / "calls", tmp_path / "program"
    program.write_text(PROGRAM.format(python=sys.executable, calls=str(module.calls), program=str(program)))
    program.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(program))
    monkeypatch.setattr(module, "find_uv", lambda: None)
    monkeypatch.setattr(module, "install_ensurepip", lambda: None)
    monkeypatch.setattr(module.os, "execv", lambda path, command: module.__dict__.update(executed=command))
    monkeypatch.chdir(tmp_path)
    return module


def calls(project):
    """What the stand-in programs were asked to do since the last question."""
    lines = project.calls.read_text().splitlines() if project.calls.exists() else []
    project.calls.unlink(missing_ok=True)
    return lines


def test_setup_makes_an_environment_from_the_locked_packages_and_a_second_one_does_nothing(project):
    project.main(["setup"])
    venv, packages, onward = calls(project)
    assert venv == f"-m venv {project.VENV}"
    assert "--require-hashes" in packages
    assert packages.endswith(str(project.LOCK))
    assert "--no-deps" in onward
    assert onward.endswith(f"--editable {project.ROOT}")
    project.main(["setup"])
    assert calls(project) == []


def test_options_are_handed_on(project):
    project.main(["test", "-k", "one or two"])
    assert project.executed == [str(project.PYTHON), "-m", "pytest", "-k", "one or two"]
    project.main(["demo", "--seed", "3"])
    assert project.executed[0] == str(project.VENV / "bin" / "onward")
    assert project.executed[1:] == ["compare", "--task", "mnist98", "--preset", "demo", "--seed", "3"]


def test_the_exit_code_is_the_programs_own(tmp_path):
    script = tmp_path / "call.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r}); import run; run.replace_by(sys.argv[1:])")
    command = [sys.executable, script, sys.executable, "-c", "raise SystemExit(7)"]
    assert subprocess.run(command).returncode == 7


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_file_updates_the_environment_in_place(project, name):
    project.main(["setup"])
    (project.VENV / "mine").touch()
    calls(project)
    with (project.ROOT / name).open("a") as file:
        file.write("# changed\n")
    project.main(["setup"])
    assert not any("-m venv" in line for line in calls(project))
    assert (project.VENV / "mine").exists()


def test_another_python_rebuilds(project, monkeypatch):
    project.main(["setup"])
    (project.VENV / "old").touch()
    monkeypatch.setattr(project, "usable", lambda uv: False)
    monkeypatch.setattr(project, "fingerprint", lambda: "of another Python\n")
    project.main(["setup"])
    assert not (project.VENV / "old").exists()


def test_a_failure_says_why_and_leaves_no_stamp_and_the_next_run_goes_on(project, monkeypatch, capsys):
    monkeypatch.setenv("FAIL_AT", "--require-hashes")
    with pytest.raises(SystemExit, match=r"does the network work\?.*onward-setup.log"):
        project.main(["setup"])
    assert "no route to host" in capsys.readouterr().err
    assert not project.STAMP.exists()
    calls(project)
    monkeypatch.delenv("FAIL_AT")
    project.main(["setup"])
    assert not any("-m venv" in line for line in calls(project))
    assert project.STAMP.read_text() == project.fingerprint()


def test_a_killed_setup_starts_from_nothing(project, monkeypatch):
    def killed(command, failure):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(project, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            project.main(["setup"])
    assert project.STAMP.read_text() == project.UNFINISHED
    (project.VENV / "half").touch()
    project.main(["setup"])
    assert not (project.VENV / "half").exists()
    assert any("-m venv" in line for line in calls(project))


def test_a_vanished_python_rebuilds(project):
    project.main(["setup"])
    project.PYTHON.unlink()
    project.main(["setup"])
    assert project.PYTHON.exists()


def test_uv_is_used_where_it_is(project, monkeypatch):
    monkeypatch.setattr(project, "find_uv", lambda: project.sys.executable)
    monkeypatch.setattr(project, "install_ensurepip", lambda: pytest.fail("uv needs no ensurepip"))
    project.main(["setup"])
    venv, packages, _ = calls(project)
    assert venv.startswith("venv ")
    assert packages.startswith(f"pip install --python {project.PYTHON} --require-hashes")


def test_a_uv_that_does_not_run_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "uv").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(ROOT)
    import run

    assert run.find_uv() is None


def without_ensurepip(monkeypatch, user, apt_get):
    monkeypatch.syspath_prepend(ROOT)
    import run

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name))
    monkeypatch.setattr(run.os, "geteuid", lambda: user)
    monkeypatch.setattr(run.shutil, "which", lambda name: apt_get)
    return run


def test_a_missing_ensurepip_is_named_with_the_command_that_installs_it(monkeypatch):
    run = without_ensurepip(monkeypatch, user=1000, apt_get="/usr/bin/apt-get")
    monkeypatch.setattr(run.sys, "executable", "/usr/bin/python3")
    with pytest.raises(
        SystemExit, match=r"ensurepip is missing.*\n\n +sudo apt-get update && .*install -y python3-venv\n"
    ):
        run.install_ensurepip()
    monkeypatch.setattr(run.sys, "executable", "/opt/python/bin/python3")
    with pytest.raises(SystemExit, match=rf"install -y python3\.{sys.version_info[1]}-venv\n"):
        run.install_ensurepip()


def test_a_missing_ensurepip_without_apt(monkeypatch):
    run = without_ensurepip(monkeypatch, user=0, apt_get=None)
    with pytest.raises(SystemExit, match=r"ensurepip is missing: install that \(or uv\)"):
        run.install_ensurepip()


@pytest.mark.parametrize("code", [0, 100])
def test_root_installs_the_package(monkeypatch, code):
    run = without_ensurepip(monkeypatch, user=0, apt_get="/usr/bin/apt-get")
    commands = []

    def apt(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(run.subprocess, "run", apt)
    monkeypatch.setattr(run.sys, "executable", "/usr/bin/python3")
    if code:
        with pytest.raises(SystemExit, match="`apt-get -qq update` failed"):
            run.install_ensurepip()
    else:
        run.install_ensurepip()
        assert [command[2] for command in commands] == ["update", "install"]
        assert commands[1][-1] == "python3-venv"


def test_an_old_python_gets_one_sentence(project, monkeypatch):
    monkeypatch.setattr(project.sys, "version_info", (3, 10, 13))
    monkeypatch.setattr(project.platform, "python_version", lambda: "3.10.13")
    with pytest.raises(
        SystemExit, match=r"^Onward needs Python 3\.11 or newer, and this is 3\.10\.13 \(.*\): [^.]*run\.py.*\.$"
    ):
        project.main(["demo"])


@pytest.mark.parametrize(("arguments", "code"), [([], 1), (["walk"], 1), (["setup", "--fast"], 1), (["--help"], 0)])
def test_other_arguments_print_the_usage(arguments, code):
    done = subprocess.run([sys.executable, ROOT / "run.py", *arguments], capture_output=True, text=True)
    assert done.returncode == code
    assert "python3 run.py demo" in (done.stderr if code else done.stdout)


def test_the_lock_satisfies_pyproject_and_names_no_address():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(line.split(" ")[0].split("==") for line in lock.splitlines() if "==" in line.split(" ")[0])
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *project["project"]["dependencies"],
        *extras["test"],
        *extras["tensorboard"],
        *project["build-system"]["requires"],
    ]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name.lower().replace("_", "-")]), requirement
    assert "://" not in lock
    assert "--index" not in lock
    assert "--find-links" not in lock
    assert "torch==" not in lock
