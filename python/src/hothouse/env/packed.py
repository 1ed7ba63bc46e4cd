"""Arrays as they are sent packed: `{"dtype": "uint8", "shape": [210, 160, 3], "base64": …}`, for who has agreed to it.

The bytes are those of the array in C order, little-endian. Small arrays are nested lists all the same.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np

SMALL = 64
"""Numbers up to which an array is sent as lists."""
KINDS = "biuf"
"""Kinds of numbers that are packed: truths, whole numbers with and without a sign, and real ones."""
KEYS = {"dtype", "shape", "base64"}


def packed(array: Any) -> Any:
    """An array as it is sent."""
    if array.size <= SMALL or array.dtype.kind not in KINDS:
        return array.tolist()
    dtype = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
    # In one piece, and in the order of the bytes that is sent; nothing is copied where it is so already.
    whole = np.ascontiguousarray(array, dtype)
    said = binascii.b2a_base64(whole.data, newline=False).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": said}


def unpacked(value: Any) -> Any:
    """The array in what was sent; whatever is no packed array comes back as it is. Raises ValueError."""
    if not isinstance(value, dict) or value.keys() != KEYS:
        return value
    dtype, shape, said = value["dtype"], value["shape"], value["base64"]
    if not isinstance(dtype, str) or not isinstance(said, str):
        raise ValueError("dtype and base64 of a packed array are texts")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("the shape of a packed array is a list of whole numbers")
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind.kind not in KINDS or kind.name != dtype:
        raise ValueError(f"dtype is {dtype!r}, which is no type of numbers such as 'uint8' or 'float32'")
    content = base64.b64decode(said, validate=True)
    count = 1
    for size in shape:
        count *= size
    if len(content) != count * kind.itemsize:
        raise ValueError(f"an array of {dtype} with shape {shape} has not {len(content)} bytes")
    # A copy, which can be written to.
    return np.frombuffer(content, kind.newbyteorder("<")).reshape(shape).astype(kind)
