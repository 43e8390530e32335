"""What recipes are given."""

from typing import Any

Batch = dict[str, Any]
"""One batch on the training device.

gt        (b, 3, s, s) in [0, 1]
lq        like gt; present where the config has a `degradation` section or the data bring their own
identity  (b,) int64; equal numbers are the same person
box       (b, 4) x0, y0, x1, y1 in pixels: the face, or the whole image where it is not known
seed      (b,) int64, a different number for every sample of the run
references  (b, N, 3, s, s) in [0, 1], valid (b, N) bool: other photos of the person; present
          where the config asks for them and a sample of the batch has one
caption   list of b strings; present where any of the samples has one
gt_digest, lq_digest  lists of b: what tells a picture that comes back, or None; present where the
          config has a `cache` section

With `data.views: v`, v photos of one identity stand next to each other.
A recipe may leave detached tensors here for a later phase of the same step.
"""
