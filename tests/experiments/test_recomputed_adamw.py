"""AdamW with nothing stored: the trial's kernels give the engine's keys where Pallas interprets them, and can be
compiled as far as a machine without the device can do that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from cachefl_jax.precision import choose_precision, forget_precision
from experiments.benchmarks import accelerator_rounds, ours, workloads
from experiments.benchmarks.accelerator_record import Reference
from experiments.benchmarks.recomputed_adamw import recomputed
from experiments.benchmarks.recomputed_kernels import DEVICES, Device, Steps, matmul_of, mean_change, scores
from experiments.benchmarks.workloads import Workload

pytestmark = pytest.mark.quick
# Six clients of six steps: tiles and groups of clients divide it in several ways.
WORKLOAD = Workload(8, 8, 128, clients=6, samples=24, batch=8, learning_rate=1e-3, rounds=1, epochs=2)
ROUNDS = 3
CALLS = {"gpu": "__gpu$xla.gpu.triton(", "tpu": "tpu_custom_call("}
KINDS = {"cuda": "NVIDIA H100 80GB HBM3", "tpu": "TPU v5 lite"}


@pytest.fixture(scope="module")
def arrays():
    return workloads.make(WORKLOAD)


@pytest.fixture(scope="module")
def engine_keys(arrays):
    step, keys = ours.prepare_ours(WORKLOAD, arrays, 1, ours.Choice("adamw", strategy="scan"))
    step(ROUNDS)
    return keys().reshape(-1, WORKLOAD.width)


@pytest.mark.parametrize(
    "device",
    [Device("cuda", 32, 64, 1), Device("cuda", 16, 128, 12), Device("tpu", 64, 128, 100)],
    ids=["all clients in a program", "groups of two", "a program a client"],
)
def test_the_kernels_give_the_keys_of_the_engine(arrays, engine_keys, device):
    step, keys = recomputed(WORKLOAD, arrays, device._replace(interpret=True))
    step(1)
    step(ROUNDS - 1)
    assert np.abs(engine_keys - arrays.keys.reshape(engine_keys.shape)).max() > 1e-3
    assert np.abs(keys() - engine_keys).max() < 1e-6


def test_no_array_holds_a_clients_params(arrays, sizes_of_arrays_of):
    """The largest are the slopes of all steps: here 16 rows of params a step, where params have 128 columns."""
    hyper, steps = numbers(arrays), shapes(clients=50, batch=16)
    keys = jax.ShapeDtypeStruct((1024, 512), jnp.float32)
    device = Device("cuda", 64, 64, 1)
    for call in (lambda *of: scores(device, hyper, *of, 1), lambda *of: mean_change(device, hyper, *of)):
        assert max(sizes_of_arrays_of(call, keys, steps)) == steps.slopes.size < 50 * 1024 * 512


def shapes(clients: int, batch: int) -> Steps:
    """Two steps of clients whose params are [1024, 512]."""
    return Steps(*(jax.ShapeDtypeStruct((clients, 2, batch, size), jnp.float32) for size in (512, 1024)))


def numbers(arrays):
    return jax.tree.map(jnp.asarray, ours.make_problem(WORKLOAD, arrays, "adamw").hyper)


@pytest.fixture
def sizes_of_arrays_of():
    """(function, *arguments) -> numbers in each array that stands between the function's kernels."""

    def sizes(function, *arguments) -> list[int]:
        equations = jax.make_jaxpr(function)(*arguments).jaxpr.eqns
        return [variable.aval.size for one in equations for variable in (*one.invars, *one.outvars)]

    return sizes


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
@pytest.mark.parametrize("precision", ["float32", "float32_3x"])
@pytest.mark.parametrize("name", DEVICES)
def test_the_kernels_compile_as_far_as_a_device_is_not_needed(arrays, name, precision):
    hyper, device, steps = numbers(arrays), DEVICES[name], shapes(clients=50, batch=32)

    def both(keys, steps):
        return scores(device, hyper, keys, steps, 1), mean_change(device, hyper, keys, steps)

    keys = jax.ShapeDtypeStruct((1024, 512), jnp.float32)
    choose_precision(precision)
    try:
        of = AbstractDevice(KINDS[device.platform], None if name == "gpu" else 1, name)
        with use_abstract_mesh(AbstractMesh((1,), ("one",), abstract_device=of)):
            lowered = jax.jit(both).trace(keys, steps).lower(lowering_platforms=(device.platform,))
    finally:
        forget_precision()
    assert lowered.as_text().count("custom_call @" + CALLS[name]) == 2


def test_products_in_a_kernel_are_as_exact_as_the_run_asks_for():
    gpu, tpu, highest = DEVICES["gpu"], DEVICES["tpu"], jax.lax.Precision.HIGHEST
    assert {matmul_of(device) for device in (gpu, tpu, gpu._replace(interpret=True))} == {highest}
    choose_precision("float32_3x")
    try:
        assert matmul_of(gpu) == jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
        assert {matmul_of(device) for device in (tpu, gpu._replace(interpret=True))} == {highest}
    finally:
        forget_precision()


def test_what_tiles_do_not_divide_is_refused(arrays):
    with pytest.raises(ValueError, match="tiles of 48 x 64"):
        recomputed(WORKLOAD, arrays, Device("cuda", 48, 64, 1))


def test_the_benchmark_reads_them(arrays):
    reference = Reference(arrays.keys)
    found = accelerator_rounds.kernels_on(WORKLOAD, reference)
    assert found["moved"] > 1e-4
    assert found["ms"] >= found["best_ms"] > 0
