"""In PyTorch: the benchmarks' functions as nn.functional code, eager and on the CPU.

Each function returns `step()`: forward, backward into fresh `.grad`, the loss as a float. It leaves
out torch.compile: what is compared is how people run it while they experiment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from racing import THREADS
from torch.nn import functional as F

torch.set_num_threads(THREADS)


def leaves(views: Sequence[np.ndarray]) -> list[torch.Tensor]:
    return [torch.tensor(view, requires_grad=True) for view in views]


def step_of(parameters: Sequence[torch.Tensor], loss_of: Callable[[], torch.Tensor]):
    def step() -> float:
        for p in parameters:
            p.grad = None
        loss = loss_of()
        loss.backward()
        return loss.item()

    return step


def moons(layers, X: np.ndarray, y: np.ndarray, decay: float):
    """`layers` are (W, b); returns the step and the parameters, in their order."""
    parameters = leaves([view for pair in layers for view in pair])
    W1, b1, W2, b2, W3, b3 = parameters
    x, sign = torch.tensor(X), torch.tensor(y)

    def loss_of() -> torch.Tensor:
        h = F.relu(F.linear(x, W1, b1))
        h = F.relu(F.linear(h, W2, b2))
        score = F.linear(h, W3, b3)[:, 0]
        return F.relu(1 - sign * score).mean() + decay * sum((p * p).sum() for p in parameters)

    return step_of(parameters, loss_of), parameters


def classifier(layers, X: np.ndarray, labels: np.ndarray):
    parameters = leaves([view for pair in layers for view in pair])
    pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
    x, classes = torch.tensor(X), torch.tensor(labels)

    def loss_of() -> torch.Tensor:
        h = x
        for W, b in pairs[:-1]:
            h = torch.sigmoid(F.linear(h, W, b))
        return F.cross_entropy(F.linear(h, *pairs[-1]), classes)

    return step_of(parameters, loss_of), parameters


def transformer(matrices: dict[str, np.ndarray], heads: int, tokens: Sequence[int]):
    parameters = leaves(list(matrices.values()))
    E, P, Q, K, V, M, up, down, L = parameters
    given, wanted = torch.tensor(tokens[:-1]), torch.tensor(tokens[1:])
    T, n = len(given), E.shape[1]

    def normalized(x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)

    def by_head(x: torch.Tensor) -> torch.Tensor:
        return x.view(T, heads, n // heads).transpose(0, 1)

    def loss_of() -> torch.Tensor:
        stream = normalized(E[given] + P[:T])
        x = normalized(stream)
        q, k, v = by_head(x @ Q.T), by_head(x @ K.T), by_head(x @ V.T)
        mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
        stream = mixed.transpose(0, 1).reshape(T, n) @ M.T + stream
        stream = F.relu(normalized(stream) @ up.T) @ down.T + stream
        return F.cross_entropy(stream @ L.T, wanted)

    return step_of(parameters, loss_of), parameters


def recurrent(matrices: dict[str, np.ndarray], X: np.ndarray, labels: np.ndarray):
    """Step by step, as the scalars are."""
    parameters = leaves(list(matrices.values()))
    W, U, b, V, c = parameters
    x, wanted = torch.tensor(X), torch.tensor(labels)

    def loss_of() -> torch.Tensor:
        h, logits = torch.zeros(len(X), W.shape[0], dtype=W.dtype), []
        for t in range(X.shape[1]):
            h = torch.tanh(h @ W.T + x[:, t] @ U.T + b[:, 0])
            logits.append(h @ V.T + c[:, 0])
        return F.cross_entropy(torch.stack(logits, 1).flatten(0, 1), wanted.flatten())

    return step_of(parameters, loss_of), parameters


def gradient(parameters: Sequence[torch.Tensor]) -> np.ndarray:
    """The gradients in one array, parameter after parameter."""
    return np.concatenate([p.grad.numpy().ravel() for p in parameters])
