"""Losses: functions of Values (and of floats), one sample at a time.

`score`, `logit` and `logits` are what a network gives, before any sigmoid or softmax: a loss that
takes logits is exact where the probability itself would round to 0 or 1. Averages over a data set
are left to whoever sums; `mean_squared_error` averages over one sample's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .functions import log_softmax, softplus
from .operations import dot, relu, square_of_difference, take, total
