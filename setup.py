"""Build the compiled modules; everything else about the project is in pyproject.toml.

``TOXMID_DEBUG=1`` builds with bounds and initialisation checks, C assertions and no optimisation.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError

DEBUG = os.environ.get("TOXMID_DEBUG") == "1"
MSVC = os.name == "nt"

# Contraction off: a fused multiply-add on one machine and not on another would give other bits. The core is one large
# unit: with gcc's usual limit to its growth, what it inlines into the loop over events depends on what else there is.
OPTIMISED = ["/O2", "/fp:precise"] if MSVC else ["-O3", "-ffp-contract=off", "--param=inline-unit-growth=50"]
# Names of lines are for debuggers and sanitizers: without them the compiler is done sooner.
if not MSVC and "-g" not in os.environ.get("CFLAGS", "").split():
    OPTIMISED.append("-g0")
CHECKED = ["/Od"] if MSVC else ["-O0", "-g", "-UNDEBUG", "-ffp-contract=off"]

DIRECTIVES = {
    "language_level": 3,
    "autotestdict": False,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "freethreading_compatible": True,
}


class BuildWithRemedy(build_ext):
    """Compile the modules side by side, and say what to install when there is no working C compiler, instead of a
    traceback of distutils."""

    def initialize_options(self) -> None:
        super().initialize_options()
        self.parallel = os.cpu_count()

    def run(self) -> None:
        try:
            super().run()
        except (CCompilerError, CompileError, ExecError, PlatformError) as error:
            raise SystemExit(
                f"toxmid: the C compiler failed ({error}). Install one and try again: "
                "'apt-get install build-essential python3-dev' (Debian), 'xcode-select --install' (macOS), "
                "'Build Tools for Visual Studio' (Windows)."
            ) from None


SOURCES = ("_core", "_decode", "_simulate", "_trades", "_filter", "_hawkes")
EXTENSIONS = [
    Extension(f"toxmid.{name}", [f"toxmid/{name}.pyx"], extra_compile_args=CHECKED if DEBUG else OPTIMISED)
    for name in SOURCES
    if os.path.exists(f"toxmid/{name}.pyx")
]

setup(
    ext_modules=cythonize(EXTENSIONS, compiler_directives=DIRECTIVES),
    cmdclass={"build_ext": BuildWithRemedy},
)
