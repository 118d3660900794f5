"""Views: regular cells as an expression that a person would write, of slices and reshapes.

Which cells are regular is found in steps.py; the functions that bind views are in source.py.
"""

from __future__ import annotations

from collections.abc import Sequence


def view_text(
    buffer: str, offset: int, shape: Sequence[int], strides: Sequence[int], by_row: bool, size: int
) -> str:
    """The expression for cells at offset + sum_j strides[j] * index_j, as slices where possible."""
    axes = sorted((a for a in range(len(shape)) if shape[a] > 1), key=lambda a: -strides[a])
    extents = [shape[a] for a in axes]
    steps = [strides[a] for a in axes]
    tail = ", -1" if by_row else ""
    if not axes:
        return f"{buffer}[{offset}:{offset + 1}].reshape({', '.join(map(str, shape))}{tail})"
    pitch = [steps[j - 1] // steps[j] if steps[j] > 0 else 0 for j in range(1, len(steps))]
    nested = steps[-1] == 1 and all(
        steps[j - 1] == pitch[j - 1] * steps[j] and pitch[j - 1] >= extents[j]
        for j in range(1, len(steps))
    )
    span = extents[0] * steps[0]
    if len(axes) == 1 and steps[0] > 1:
        text = f"{buffer}[{offset}:{offset + span - steps[0] + 1}:{steps[0]}]"
        if len(shape) > 1:
            text += "[" + ", ".join(":" if n > 1 else "None" for n in shape) + "]"
        return text
    whole = shape if axes == sorted(axes) and pitch == extents[1:] else None
    # rows that begin a little before, where the last of them is the last there is
    left = max(0, offset + span - size)
    if nested and left <= min(offset, pitch[-1] - extents[-1] if pitch else 0):
        text = f"{buffer}[{offset - left}:{offset - left + span}]"
        if whole is not None:
            return text + (
                f".reshape({', '.join(map(str, shape))}{tail})" if len(shape) > 1 else ""
            )
        text += f".reshape({', '.join(map(str, [extents[0], *pitch]))}{tail})"
        cut = [":" if p == e else f":{e}" for p, e in zip(pitch, extents[1:], strict=True)]
        if left:
            cut[-1] = f"{left}:{left + extents[-1]}"
        if any(c != ":" for c in cut):
            text += f"[:, {', '.join(cut)}]"
        order = [sorted(axes).index(a) for a in axes]
        if order != sorted(order):
            back = [order.index(k) for k in range(len(order))]
            text += f".transpose({', '.join(map(str, back + ([len(back)] if by_row else [])))})"
        if len(axes) < len(shape):
            text += "[" + ", ".join(":" if n > 1 else "None" for n in shape) + "]"
        return text
    return f"strided({buffer}, {offset}, {tuple(shape)}, {tuple(strides)})"
