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
    """For a test of the C engine: where it was not built (setup.py says why), there is nothing to test."""
    if not engine_c.available():
        pytest.skip(f"the C engine is not here: {engine_c.why_not()}")


@pytest.fixture
def isa(request, c_engine):
    """The C engine with the kernels of one instruction set at most, the test's parameter; a CPU without it cannot run them."""
    best = engine_c.limit_isa("avx512fp16")
    has = engine_c.limit_isa(request.param) == request.param
    try:
        if not has:
            pytest.skip(f"this CPU or this build has no {request.param}, {best} at most")
        yield request.param
    finally:
        engine_c.limit_isa("avx512fp16")
