"""The accelerator's benchmark: everybody trains the same, and what fails or finds no time left is said."""

import json

import pytest
from test_benchmarks import run

from experiments.benchmarks import accelerator, accelerator_record, accelerator_tables

pytestmark = pytest.mark.quick


def test_ours_and_torch_train_the_same_keys_at_once_and_one_after_another(tmp_path):
    done = run("accelerator", "--tiny", "--only=engine", f"--output={tmp_path}", "--commit=abc")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "readings.jsonl").read_text().splitlines()]
    assert lines[0]["commit"] == "abc"
    found = [line for line in lines if "off" in line]
    for optimizer in ("sgd", "adamw"):
        by = {line["by"] for line in found if line["optimizer"] == optimizer}
        assert by >= {"cachefl_jax", "PyTorch, stacked", "PyTorch, client by client"}
    for line in found:
        assert line["off"] < 1e-6 < 1e-5 < line["moved"], line
        assert 0 < line["best_ms"] <= line["ms"]
    assert (tmp_path / "accelerator.png").read_bytes().startswith(b"\x89PNG")
    assert "engine, small, adamw, PyTorch, stacked" in done.stdout


def test_a_reading_that_fails_is_a_reading_and_the_rest_goes_on(tmp_path):
    record = accelerator_record.Record(tmp_path, seconds=1e3)
    record.take("engine", lambda: 1 / 0, by="this")
    record.take("engine", lambda: {"ms": 2.0}, by="that")
    record.seconds = 0.0
    record.take("engine", lambda: {"ms": 3.0}, by="another")
    lines = [json.loads(line) for line in (tmp_path / "readings.jsonl").read_text().splitlines()]
    assert lines == record.lines
    assert [line["by"] for line in lines] == ["this", "that", "another"]
    assert (lines[0]["error"], lines[1]["ms"]) == ("ZeroDivisionError: division by zero", 2.0)
    assert lines[2]["skipped"]
    told = accelerator_tables.text(lines)
    for part in ("this: ZeroDivisionError", "another: no time left", "2.00"):
        assert part in told


def test_a_products_rate_comes_with_how_exact_it_is(tmp_path):
    record = accelerator_record.Record(tmp_path, seconds=1e3)
    accelerator.rates_section(record, {})
    rates = {line["what"]: line for line in record.lines}
    assert rates["highest"]["off"] < 1e-6 < 1e-4 < rates["bfloat16"]["off"] < 1e-2
    for what in ("highest", "BF16_BF16_F32_X6", "BF16_BF16_F32_X3", "default", "bfloat16"):
        assert rates[what]["tflops"] > 0


def test_a_reading_is_the_median_of_what_a_round_took():
    calls = []
    found = accelerator_record.timed(lambda: calls.append(0), rounds=10, least=0)
    assert len(calls) == 3
    assert 0 < found["best_ms"] <= found["ms"]


def test_an_unknown_section_is_told_in_one_line():
    done = run("accelerator", "--only=games")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
