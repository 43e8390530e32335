"""Operators of TensorFlow Lite as plain loops in float64, one picture (h, w, c) at a time."""

import math

import numpy as np

SAME, VALID = 0, 1
NONE, RELU = 0, 1
ACTIVATIONS = {NONE: lambda x: x, RELU: lambda x: np.maximum(x, 0)}


def windows(size, kernel, stride, dilation, padding):
    """For each place of the result along one axis: which pixels its window holds, None outside."""
    reach = (kernel - 1) * dilation + 1
    if padding == SAME:
        made = math.ceil(size / stride)
        before = max((made - 1) * stride + reach - size, 0) // 2
    else:
        made, before = math.ceil((size - reach + 1) / stride), 0
    starts = [i * stride - before for i in range(made)]
    taps = [[s + k * dilation for k in range(kernel)] for s in starts]
    return [[t if 0 <= t < size else None for t in row] for row in taps]


def naive_conv(x, weight, bias, stride, dilation, padding):
    """(h, w, c) by weights (o, kh, kw, c)."""
    rows = windows(x.shape[0], weight.shape[1], stride[0], dilation[0], padding)
    columns = windows(x.shape[1], weight.shape[2], stride[1], dilation[1], padding)
    out = np.zeros((len(rows), len(columns), len(weight))) + bias
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            for a, y in enumerate(row):
                for b, z in enumerate(column):
                    if y is not None and z is not None:
                        out[i, j] += weight[:, a, b] @ x[y, z]
    return out


def naive_depthwise(x, weight, bias, stride, dilation, padding):
    """(h, w, c) by weights (kh, kw, c * m): filter c * m + k sees channel c alone."""
    channels = x.shape[2]
    many = weight.shape[2] // channels
    full = np.zeros((weight.shape[2], *weight.shape[:2], channels))
    for o in range(len(full)):
        full[o, :, :, o // many] = weight[:, :, o]
    return naive_conv(x, full, bias, stride, dilation, padding)


def naive_pool(x, kernel, stride, padding):
    rows = windows(x.shape[0], kernel[0], stride[0], 1, padding)
    columns = windows(x.shape[1], kernel[1], stride[1], 1, padding)
    held = [
        [
            [x[y, z] for y in row if y is not None for z in column if z is not None]
            for column in columns
        ]
        for row in rows
    ]
    return np.array([[np.max(pixels, axis=0) for pixels in line] for line in held])


def naive_resize(x, size, corners, centers):
    def sources(old, new):
        for i in range(new):
            if corners:
                at = i * (old - 1) / (new - 1) if new > 1 else 0
            else:
                at = max((i + 0.5) * old / new - 0.5, 0) if centers else i * old / new
            low = min(int(at), old - 1)
            yield low, min(low + 1, old - 1), at - low

    out = np.zeros((*size, x.shape[2]))
    for i, (y0, y1, v) in enumerate(sources(x.shape[0], size[0])):
        for j, (x0, x1, u) in enumerate(sources(x.shape[1], size[1])):
            top = x[y0, x0] * (1 - u) + x[y0, x1] * u
            out[i, j] = top * (1 - v) + (x[y1, x0] * (1 - u) + x[y1, x1] * u) * v
    return out


# A case writes a graph and returns its outputs and what they are of each entry of a batch.
