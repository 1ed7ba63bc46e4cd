"""What need not be installed, and is used where it is: pydantic, from its second version on."""

from __future__ import annotations

from typing import Any, Callable, Optional


def _pydantic() -> Any:
    try:
        import pydantic
    except ImportError:
        return None
    return pydantic if int(pydantic.VERSION.partition(".")[0]) >= 2 else None


pydantic: Any = _pydantic()
"""The module, or None."""
from_json: Optional[Callable[[bytes], Any]] = None
to_json: Optional[Callable[..., bytes]] = None
if pydantic is not None:
    import pydantic_core

    from_json, to_json = pydantic_core.from_json, pydantic_core.to_json
