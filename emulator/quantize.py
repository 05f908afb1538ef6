"""quantize: arrays into any scaled format, by name."""

from __future__ import annotations

from typing import Any

from .blocks import BLOCKS
from .errors import UnknownFormat
from .integers import INTEGERS

__all__ = ["SCHEMES", "quantize"]

# Every scheme has .quantize(x, **options); every result has .dequantize(dtype=np.float32).
SCHEMES: dict[str, Any] = {**BLOCKS, **INTEGERS}


def quantize(x: Any, scheme: str, **options: Any) -> Any:
    """x by the scheme of that name (SCHEMES), with that scheme's options: `quantize(x, "nvfp4", mode="te")`.

    Raises UnknownFormat, naming the schemes; and as the scheme's own quantize does.
    """
    found = SCHEMES.get(scheme) if isinstance(scheme, str) else scheme
    if not hasattr(found, "quantize"):
        raise UnknownFormat(f"{scheme!r} is not a quantisation scheme; the schemes are {', '.join(SCHEMES)}")
    return found.quantize(x, **options)
