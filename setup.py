"""Builds the C library (csrc) into the module emulator._c, through cffi. Everything else is in pyproject.toml.

The library is optional. Where it cannot be built the package installs all the same, and emulator/_c_build.txt says
why, for the program to repeat. Two variables steer the build:

    EMULATOR_C=strict     a mistake in csrc is an error (as under make); only a machine that cannot compile falls back
    EMULATOR_C=off        no C library
    EMULATOR_SANITIZE=1   under the address and undefined-behaviour sanitizers (see `make sanitize`)

A file csrc/NAME_<part>.c for a part in the table below is compiled with that part's flags and on x86-64 only; every
other csrc/NAME.c is the portable part. Where a part was compiled, EMU_<PART> is defined for all, and the portable part
chooses at run time: each flag in the table is one thing to ask of the CPU. Functions in headers are `static inline`:
of an `inline` one the linker keeps any copy, maybe the AVX-512 one, for every CPU.
"""

import contextlib
import os
import pathlib
import re
import shutil
import sys
import sysconfig
import tempfile

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512cd", "-mavx512dq", "-mavx512vl"]
PARTS = {
    "avx2": AVX2,
    "avx512": AVX512,
    "avx512fp16": [*AVX512, "-mavx512fp16", "-mavx512vnni"],
    "live": [*AVX512, "-mavx512fp16", "-mavx512bf16", "-mavx512vnni", "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
}

# -O3                 the portable loops are over integers: vectorising them cannot change a bit
# -ffp-contract=off   a*b+c is two roundings unless the code says fma; gcc's and clang's own defaults differ
# -fno-fast-math      these come after the user's CFLAGS, and win
# -fvisibility=hidden another library in the process may have an emu_ too
FLAGS = {
    "unix": ["-std=c11", "-O3", "-ffp-contract=off", "-fno-fast-math", "-fvisibility=hidden", "-pthread", "-Wall",
             "-Wextra"],
    "msvc": ["/std:c11", "/O2", "/fp:precise"],
}
LINK = {"unix": ["-pthread", "-lm"]}

# Python's own CFLAGS have -fwrapv, under which a signed overflow is no error to report, and -DNDEBUG.
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g", "-O1",
            "-fno-wrapv", "-UNDEBUG"]

CSRC = pathlib.Path("csrc")
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")  # one for every Python >= 3.10, not free-threaded


def declarations() -> str:
    """What cffi is told: the part of the header between the two cffi lines."""
    _, begin, rest = (CSRC / "emulator.h").read_text(encoding="utf-8").partition("/* cffi: begin */")
    text, end, _ = rest.partition("/* cffi: end */")
    if not (begin and end):
        raise ValueError("csrc/emulator.h: the lines /* cffi: begin */ and /* cffi: end */ are not both there")
    return text


@contextlib.contextmanager
def overheard(heard: list[str]):
    """What the compiler prints goes to `heard`, for quoting, as well as to stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
            log.seek(0)
            heard.append(log.read().decode(errors="replace"))
            sys.stderr.write(heard[-1])


class BuildC(build_ext):
    def build_extension(self, ext):
        built, reason = pathlib.Path(self.get_ext_fullpath(ext.name)), self.reason_file()
        for old in (built, reason):  # left by an earlier build in this folder
            old.unlink(missing_ok=True)
        why = self.try_to_build(ext)
        if why:
            built.unlink(missing_ok=True)
            reason.parent.mkdir(parents=True, exist_ok=True)
            reason.write_text(why + "\n", encoding="utf-8")
            print(f"emulator: the C library was not built: {why}", file=sys.stderr)

    def try_to_build(self, ext) -> str:
        """Builds; "" or why it did not."""
        mode = os.environ.get("EMULATOR_C", "")
        if mode not in ("", "strict", "off"):
            raise ValueError(f"EMULATOR_C is {mode!r}; it takes strict, off or nothing")
        if mode == "off":
            return "it was installed with EMULATOR_C=off"
        heard: list[str] = []
        try:
            with overheard(heard):
                self.compile_text("probe", "#include <Python.h>\n")
        except Exception as error:
            if "Python.h" in "".join(heard):
                return "when it was installed, Python's C headers were missing (on Debian: apt install python3-dev)"
            compiler = getattr(self.compiler, "compiler_so", None)  # msvc has none, and words its error well
            there = compiler and ("failed" if shutil.which(compiler[0]) else "was not on PATH")
            return f"when it was installed, no C compiler worked ({f'{compiler[0]} {there}' if there else error})"
        try:
            with overheard(heard):
                self.build(ext)
        except Exception as error:
            if mode == "strict":
                ext.optional = False  # setuptools excuses an optional one
                raise
            said = re.search(r".*\berror: .*|.*\berror [A-Z]+\d+: .*", heard[-1])
            return f"when it was installed, its C library did not compile ({said.group().strip() if said else error})"
        return ""

    def build(self, ext):
        from cffi import FFI

        kind = self.compiler.compiler_type
        sanitize = os.environ.get("EMULATOR_SANITIZE", "0") not in ("", "0")
        flags = FLAGS.get(kind, []) + (SANITIZE if sanitize else [])

        files: dict[str, list[str]] = {"portable": []}
        for path in sorted(CSRC.glob("*.c")):
            tail = path.stem.rpartition("_")[2]
            files.setdefault(tail if tail in PARTS else "portable", []).append(str(path))
        x86 = kind == "unix" and sysconfig.get_platform().endswith("x86_64")
        parts = [part for part in PARTS if part in files and x86 and self.knows(part)]
        macros = [(f"EMU_{part.upper()}", "1") for part in parts]

        ext.extra_objects = []
        for part in ["portable", *parts]:
            ext.extra_objects += self.compiler.compile(
                files[part], output_dir=self.build_temp, include_dirs=[str(CSRC)], macros=macros, depends=ext.depends,
                extra_postargs=flags + PARTS.get(part, []))

        ffi = FFI()
        ffi.cdef(declarations())
        ffi.set_source(ext.name, '#include "emulator.h"')
        door = pathlib.Path(self.build_temp, "_c.c")
        ffi.emit_c_code(str(door))
        ext.sources = [str(door)]
        ext.include_dirs = [str(CSRC)]
        ext.extra_link_args = LINK.get(kind, []) + (SANITIZE[:1] if sanitize else [])
        self.force = True
        super().build_extension(ext)

    def compile_text(self, name: str, text: str, flags=()):
        source = pathlib.Path(self.build_temp, f"{name}.c")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text, encoding="utf-8")
        self.compiler.compile([str(source)], output_dir=self.build_temp, extra_postargs=list(flags))

    def knows(self, part: str) -> bool:
        """Does this compiler know the part's flags? A mistake in the part itself is not excused so."""
        try:
            text = "#ifndef __x86_64__\n#error\n#endif\n#include <immintrin.h>\n"
            self.compile_text(f"probe_{part}", text, PARTS[part])
        except Exception:
            return False
        return True

    def reason_file(self) -> pathlib.Path:
        return pathlib.Path(self.build_lib, "emulator", "_c_build.txt")

    def copy_extensions_to_source(self):
        """For `pip install -e`: the same state beside the sources, library or reason, and no stale other."""
        super().copy_extensions_to_source()
        package = pathlib.Path("emulator")
        reason = self.reason_file()
        (package / "_c_build.txt").unlink(missing_ok=True)
        if reason.exists():
            self.copy_file(str(reason), str(package / "_c_build.txt"))
            for old in [*package.glob("_c.*.so"), *package.glob("_c.*.pyd")]:
                old.unlink()


setup(
    ext_modules=[Extension(
        "emulator._c", sources=[], depends=sorted(map(str, CSRC.glob("*.[ch]"))), optional=True,
        py_limited_api=LIMITED, define_macros=[("Py_LIMITED_API", "0x030A0000")] if LIMITED else [])],
    cmdclass={"build_ext": BuildC},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if LIMITED else {},
)
