import ctypes
import os
import subprocess
import sys
import textwrap

import platformdirs
import pytest

from mlptheory.base import native

SOURCE = "int doubled(int value) { return 2 * value; }\n"

pytestmark = pytest.mark.skipif(native._command() is None, reason="there is no compiler")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mlptheory" / "compiled"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "doubling.c"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A compiler that writes down what it is asked for."""
    log, script = tmp_path / "calls", tmp_path / "told-cc"
    script.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec {native._command()[0]} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    return lambda: [line for line in log.read_text().splitlines() if " -o " in line] if log.exists() else []


def compiled(source):
    return native.compiled.__wrapped__(source)


def test_a_file_is_compiled_once_and_kept_for_this_user_alone(source, folder, calls):
    assert compiled(source).doubled(21) == 42
    assert len(calls()) == 1 and len(list(folder.iterdir())) == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert next(folder.iterdir()).stat().st_mode & 0o777 == 0o600
    assert compiled(source).doubled(4) == 8
    assert len(calls()) == 1


def test_another_text_or_another_compiler_is_compiled_anew(source, folder, calls, monkeypatch):
    compiled(source)
    source.write_text(SOURCE.replace("2", "3"))
    assert compiled(source).doubled(2) == 6
    assert len(calls()) == len(list(folder.iterdir())) == 2
    monkeypatch.setenv("CC", f"{os.environ['CC']} -O1")
    assert compiled(source).doubled(2) == 6
    assert len(calls()) == len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("compiler", ["", "no-such-compiler", "false", 'cc "'])
def test_without_a_compiler_there_is_nothing(source, folder, monkeypatch, compiler):
    monkeypatch.setenv("CC", compiler)
    assert compiled(source) is None


def test_on_another_system_there_is_nothing(source, folder, monkeypatch):
    monkeypatch.setattr(native.platform, "system", lambda: "Darwin")
    assert compiled(source) is None


def test_a_compiler_that_reads_takes_nothing_of_the_programs_input(source, folder, tmp_path):
    script = tmp_path / "reading-cc"
    script.write_text(f'#!/bin/sh\ncat >/dev/null\nexec {native._command()[0]} "$@"\n')
    script.chmod(0o755)
    code = f"""
        from pathlib import Path
        from mlptheory.base.native import compiled
        assert compiled(Path({str(source)!r})).doubled(5) == 10
        assert input() == "for the program"
    """
    environment = {**os.environ, "CC": str(script)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    subprocess.run(command, input=b"for the program\n", env=environment, check=True, timeout=120)


def test_what_does_not_compile_is_nothing_and_leaves_nothing(source, folder):
    source.write_text("int doubled(")
    assert compiled(source) is None and not list(folder.iterdir())


def in_another_process(source):
    code = f"""
        from pathlib import Path
        from mlptheory.base.native import compiled
        assert compiled(Path({str(source)!r})).doubled(5) == 10
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])


def test_a_kept_library_that_is_spoiled_is_replaced(source, folder, calls):
    # Here it would stay loaded, and its file mapped.
    assert in_another_process(source).wait(timeout=120) == 0
    (kept,) = folder.iterdir()
    kept.write_bytes(b"")
    assert compiled(source).doubled(1) == 2
    assert len(calls()) == 2 and kept.stat().st_size > 0


def test_where_nothing_can_be_kept_it_is_compiled_each_time(source, folder, calls):
    folder.parent.parent.mkdir(parents=True)
    folder.parent.write_text("a file where the folder would be")
    assert compiled(source).doubled(1) == compiled(source).doubled(1) == 2
    assert len(calls()) == 2


def test_a_folder_that_others_can_write_to_is_not_trusted(source, folder, calls, tmp_path):
    assert compiled(source).doubled(1) == 2
    (kept,) = folder.iterdir()
    other = tmp_path / "other.c"
    other.write_text(SOURCE.replace("2", "666"))
    subprocess.run([*native._command(), "-shared", "-fPIC", "-o", str(kept), str(other)], check=True)
    folder.chmod(0o777)
    assert compiled(source).doubled(1) == 2


def test_processes_that_begin_together_all_have_it(source, folder):
    begun = [in_another_process(source) for _ in range(3)]
    assert [process.wait(timeout=120) for process in begun] == [0, 0, 0]
    assert len(list(folder.iterdir())) == 1


def test_threads_are_torchs_own(folder):
    code = """
        from mlptheory.training.lion import _library
        assert _library() is not None
        libraries = {line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line}
        assert len(libraries) == 1 and "torch" in libraries.pop()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


def test_a_compiler_told_to_be_fast_leaves_denormal_numbers_and_nan(source, folder, monkeypatch):
    source.write_text("int is_nan(float value) { return value != value; }\n")
    monkeypatch.setenv("CC", f"{native._command()[0]} -ffast-math")
    library = compiled(source)
    library.is_nan.argtypes = [ctypes.c_float]
    assert library.is_nan(float("nan")) == 1
    assert sys.float_info.min / 2 > 0


def test_the_cache_folder_is_the_platforms(folder):
    assert native._folder() == platformdirs.user_cache_path("mlptheory") / "compiled"
