import os

import pytest
from hypothesis import settings

from emulator import engine_c

# No deadline: the first call of a Numba function compiles it.
# In CI the same examples every time, so that a red run can be repeated.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture
def c_engine():
    """For a test of the C engine."""
    if not engine_c.available():        # a machine without a C compiler runs on Numba: there is no library to test
        pytest.skip(f"the C engine is not here: {engine_c.why_not()}")


@pytest.fixture
def isa(request, c_engine):
    """The C engine with the kernels of one instruction set at most, the test's parameter."""
    best = engine_c.limit_isa("avx512fp16")
    has = engine_c.limit_isa(request.param) == request.param
    try:
        if not has:                     # its kernels would end the process by SIGILL; the best that is here has its own case
            pytest.skip(f"this CPU or this build has no {request.param}, {best} at most")
        yield request.param
    finally:
        engine_c.limit_isa("avx512fp16")
