"""What a signal does: one line and its own status, at once or when what is running is saved. Real signals, to processes
that load the standard library alone."""

import signal
import subprocess
import sys

import pytest

from cachefl_jax import interrupts

START = """
import hashlib, os, signal, sys, time
from cachefl_jax import interrupts
# A shell's job in the background, and all that it starts, ignores SIGINT; under nohup SIGHUP, too.
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
def send(name):
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.1)
try:
    {before}
    interrupts.listen()
    {body}
    interrupts.unlisten()
except interrupts.Interrupted as interrupted:
    interrupts.leave(interrupted)
"""


def run(body: str, before: str = "pass") -> subprocess.CompletedProcess:
    text = START.format(before=before, body=body.replace("\n", "\n    "))
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_is_one_line_with_the_hint_and_its_own_status(name, status):
    done = run(f"print('begun')\nsend('{name}')\nprint('never')")
    assert (done.returncode, done.stdout) == (status, "begun\n")
    assert done.stderr == f"{name}: left; the same command goes on\n"
    done = run(f"interrupts.request.hint = 'it begins anew'\nsend('{name}')")  # of a command that cannot go on
    assert done.stderr == f"{name}: left; it begins anew\n"


def test_work_that_is_worth_finishing_is_finished_and_nothing_after_it():
    body = "with interrupts.finishing():\n    send('SIGTERM')\n    print('saved')\n"
    done = run(body + "    interrupts.leave_if_asked()\n    print('never')")
    assert (done.returncode, done.stdout) == (143, "saved\n")
    assert done.stderr == f"SIGTERM: {interrupts.FINISHING}; {interrupts.HINT}\n"
    assert run(body + "print('never')").stdout == "saved\n"


def test_a_second_signal_ends_even_a_call_that_python_cannot_enter():
    body = f"""
import threading
def send_both():
    for _ in range(2):
        time.sleep({interrupts.SAME} + 0.2)
        os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=send_both, daemon=True).start()
with interrupts.finishing():
    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"""
    done = run(body)
    assert done.returncode == 130
    assert len(done.stderr.splitlines()) == 1


def test_the_same_signal_at_once_again_is_one_request():
    """As GNU timeout sends it: to the process, and to its group."""
    done = run("with interrupts.finishing():\n    send('SIGTERM'); send('SIGTERM')\n    print('saved')")
    assert (done.returncode, done.stdout) == (143, "saved\n")


def test_what_the_process_was_started_to_ignore_stays_ignored():
    done = run("send('SIGHUP')\nprint('done')", before="signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_an_interruption_is_no_error_to_recover_from():
    assert not issubclass(interrupts.Interrupted, Exception)
    assert interrupts.Interrupted(signal.SIGTERM).status == 143
