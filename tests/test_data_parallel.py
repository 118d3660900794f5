"""`fit(..., map=...)` over engines that exist, in processes of their own.

concurrent.futures, joblib, and Dask's client on a local cluster of two workers that the test
starts: the same gradient, a worker killed in the middle of a batch, an exception with its message.
How a batch is cut and sent is test_training.py's.
"""

import os
import random
import signal
import warnings
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context

import numpy as np
import pytest

from micrograd_scratch import MLP, fit, losses, optim
from micrograd_scratch.sharding import ShardedGradient
from micrograd_scratch.training import compile_loss


def problem(rows=60, sizes=(6, 8, 4)):
    """(model, X, Y): classes that a network can learn."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, sizes[0]))
    Y = (X[:, : sizes[-1]].argmax(axis=1)).astype(float)
    return MLP(sizes[0], sizes[1:], activation="tanh", rng=random.Random(0)), X, Y


def numbers(model):
    return np.array([p.data for p in model.parameters()])


# ---------------------------------------------------------------- the engines
@contextmanager
def processes():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        yield executor.map


@contextmanager
def joblib_processes():
    joblib = pytest.importorskip("joblib")
    with joblib.Parallel(n_jobs=2) as parallel:
        yield lambda function, tasks: parallel(joblib.delayed(function)(task) for task in tasks)


@contextmanager
def dask_client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        yield client


@contextmanager
def dask():
    with dask_client() as client:
        yield client.map


ENGINES = {"processes": processes, "joblib": joblib_processes, "dask": dask}


@pytest.mark.parametrize("name", ENGINES)
def test_the_gradient_is_that_of_one_process(name):
    """To 1e-12 of its largest number, for shards that are equal, unequal, and more than workers."""
    model, X, Y = problem()
    program = compile_loss(model, losses.cross_entropy, X, Y)
    theta = numbers(model)
    where = set()
    with ENGINES[name]() as chosen:

        def noted(function, tasks):
            where.update(value.result() if hasattr(value, "result") else value
                         for value in chosen(process_of, list(range(len(tasks)))))  # fmt: skip
            return chosen(function, tasks)

        for rows, shards in ((60, 2), (7, 2), (60, 5), (1, 2)):
            value, expected = program.value_and_grad(X[:rows], Y[:rows], parameters=theta)
            out = np.empty_like(expected)
            sharded = ShardedGradient(program, noted, shards)
            mean, _ = sharded.value_and_grad(X[:rows], Y[:rows], parameters=theta, out=out)
            assert abs(mean - value) <= 1e-12 * abs(value)
            assert np.abs(out - expected).max() <= 1e-12 * np.abs(expected).max()
    assert where and os.getpid() not in where  # other processes did it


def process_of(_):
    return os.getpid()


@pytest.mark.parametrize("name", ENGINES)
def test_training_reaches_the_weights_of_one_process(name):
    options = {"loss": "cross_entropy", "epochs": 3, "batch_size": 20, "metrics": ["accuracy"]}
    alone, X, Y = problem()
    expected = fit(alone, X, Y, optimizer=optim.Adam(0.05), **options)
    spread, _, _ = problem()
    with ENGINES[name]() as chosen, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # nobody was lost
        history = fit(spread, X, Y, optimizer=optim.Adam(0.05), map=chosen, shards=2, **options)
    assert np.abs(numbers(spread) - numbers(alone)).max() <= 1e-10
    assert history.loss == pytest.approx(expected.loss, rel=1e-10)
    assert history.loss[-1] < history.loss[0]


@pytest.mark.parametrize("name", ENGINES)
def test_a_workers_exception_arrives_with_its_own_message(name):
    model, X, Y = problem(rows=8)
    Y[5] = 9.0
    before = numbers(model)
    with (
        ENGINES[name]() as chosen,
        pytest.raises(IndexError, match="9 is not one of the integers 0 to 3"),
    ):
        fit(model, X, Y, loss="cross_entropy", batch_size=None, map=chosen, shards=2)
    assert np.array_equal(numbers(model), before)


def test_dask_loses_a_worker_and_the_training_nothing():
    """One of two worker processes is killed just after it was given work, in the second step."""
    options = {"loss": "cross_entropy", "epochs": 2, "batch_size": 20}
    alone, X, Y = problem()
    fit(alone, X, Y, **options)
    spread, _, _ = problem()
    with dask_client() as client, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # it did not fall back on this process
        steps = []

        def losing(function, tasks):
            futures = client.map(function, tasks)
            steps.append(len(tasks))
            if len(steps) == 2:
                os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
            return futures

        fit(spread, X, Y, map=losing, shards=2, **options)
    assert len(steps) >= 6
    assert np.abs(numbers(spread) - numbers(alone)).max() <= 1e-10


def test_a_pool_that_lost_a_process_goes_on_without():
    options = {"loss": "cross_entropy", "epochs": 2, "batch_size": 20}
    alone, X, Y = problem()
    fit(alone, X, Y, **options)
    spread, _, _ = problem()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        steps = []

        def losing(function, tasks):
            steps.append(len(tasks))
            if len(steps) == 2:
                os.kill(min(executor._processes), signal.SIGKILL)
                with suppress(BrokenExecutor):  # until the pool has noticed
                    while True:
                        executor.submit(int).result()
            return executor.map(function, tasks)

        with pytest.warns(RuntimeWarning, match="this process alone"):
            fit(spread, X, Y, map=losing, shards=2, **options)
    assert np.abs(numbers(spread) - numbers(alone)).max() <= 1e-10
