"""Timetables computed by hand. Times are sums of halves and quarters, so that float64 has them exactly."""

import numpy as np
import pytest

from cachefl_jax.clock.buffered import asynchronous
from cachefl_jax.clock.profiles import Profiles
from cachefl_jax.clock.timetable import Rules, Tasks, synchronous, tasks_of
from cachefl_jax.errors import UsageError

HOUR = 3600.0


def tasks(rows, steps, before, step, after) -> Tasks:
    """As lists."""
    return Tasks(np.array(rows), np.array(steps), *(np.array(each, np.float64) for each in (before, step, after)))


def always(clients: int) -> np.ndarray:
    return np.ones((clients, 24), bool)


# Done after 2, 4 and 7 seconds.
THREE = tasks([5, 9, 7], [2, 4, 6], [0.5, 1, 1], [0.5, 0.5, 0.75], [0.5, 1, 1.5])


def test_seconds_of_a_task():
    """1,000 bytes up at 4,000 bit/s, 500 down at 8,000, 100 operations a step at 50 a second, 0.5 seconds each way."""
    one = lambda value: np.array([value])  # noqa: E731
    profiles = Profiles(one(4e3), one(8e3), one(0.5), one(50.0), one(np.inf), always(1))
    found = tasks_of(profiles, one(9), one(3), (1000, 500, 100.0))
    assert (found.before[0], found.step[0], found.after[0]) == (1.0, 2.0, 2.5)
    assert found.whole[0] == 9.5


def test_a_round_waits_for_the_last():
    found = synchronous(THREE, always(3), Rules(rounds=2, size=3, seed=0))
    assert found.ends.tolist() == [7, 14]
    assert found.clients.tolist() == [[1, 2, 0]] * 2  # by rows, the most first
    assert found.sizes.tolist() == [3, 3]
    assert found.steps.tolist() == [[4, 6, 2]] * 2
    assert not found.ages.any()
    assert found.sites.busy.tolist() == [4, 8, 14]
    assert found.sites.waiting.tolist() == [10, 6, 0]
    assert found.sites.taken.tolist() == [2, 2, 2]
    assert not found.sites.lost.any()


def test_what_comes_after_the_deadline_is_left_out():
    found = synchronous(THREE, always(3), Rules(1, 3, 0, deadline=4.0, partial=False))
    assert found.ends.tolist() == [4]
    assert found.clients[0, : found.sizes[0]].tolist() == [1, 0]  # the second comes just in time
    assert found.sites.lost.tolist() == [0, 0, 1]
    assert found.sites.busy.tolist() == [2, 4, 4]
    assert found.sites.waiting.tolist() == [2, 0, 0]


def test_partial_work_ends_in_time():
    """By second 4 the last has 1.5 seconds for steps of 0.75: two. By 2.25 it has none, and the second has one of a
    half; what a site has left over is waiting."""
    found = synchronous(THREE, always(3), Rules(1, 3, 0, deadline=4.0))
    assert found.sizes.tolist() == [3]
    assert found.steps.tolist() == [[4, 2, 2]]
    assert found.ends.tolist() == [4]
    found = synchronous(THREE, always(3), Rules(1, 3, 0, deadline=2.5))
    assert found.clients[0, : found.sizes[0]].tolist() == [1, 0]
    assert found.steps[0, :2].tolist() == [1, 2]
    assert found.sites.lost.tolist() == [0, 0, 1]
    assert found.sites.waiting.tolist() == [0.5, 0, 0]


def test_a_deadline_after_everybody_ends_no_round_earlier_or_later():
    for partial in (True, False):
        found = synchronous(THREE, always(3), Rules(1, 3, 0, deadline=100.0, partial=partial))
        assert found.ends.tolist() == [7]
        assert found.steps.tolist() == [[4, 6, 2]]


def test_of_more_than_are_needed_the_first_to_come_are_taken():
    """Two of three are needed; 1.5 times as many are asked. The third is stopped when the second has come."""
    found = synchronous(THREE, always(3), Rules(1, 2, 0, over_selection=0.5))
    assert found.asked.tolist() == [3]
    assert found.clients[0].tolist() == [1, 0]
    assert found.ends.tolist() == [4]
    assert found.sites.lost.tolist() == [0, 0, 1]
    assert found.sites.busy.tolist() == [2, 4, 4]


def test_ten_percent_more_of_ten_are_eleven():
    """Though 10 x 1.1 is more than 11 in float64."""
    same = tasks([1] * 30, [1] * 30, [0] * 30, [1] * 30, [0] * 30)
    assert synchronous(same, always(30), Rules(1, 10, 0, over_selection=0.1)).asked.tolist() == [11]


def test_whoever_is_away_is_not_asked_and_a_round_waits_for_somebody():
    """The first is there from 0 to 1, the second from 3 to 4, the third never; a round of theirs takes half an hour."""
    half = tasks([4, 4, 4], [1, 1, 1], [0, 0, 0], [1800, 1800, 1800], [0, 0, 0])
    hours = np.zeros((3, 24), bool)
    hours[0, 0] = hours[1, 3] = True
    found = synchronous(half, hours, Rules(5, 3, 0))
    assert (found.ends / HOUR).tolist() == [0.5, 1.0, 3.5, 4.0, 24.5]
    assert found.clients[:, 0].tolist() == [0, 0, 1, 1, 0]
    assert found.sizes.tolist() == [1] * 5


def test_seconds_count_from_the_first_round():
    """The only site is there from 9 on."""
    hours = np.zeros((1, 24), bool)
    hours[0, 9:] = True
    one = tasks([4], [1], [0], [1800], [0])
    for compute in (synchronous, asynchronous):
        assert compute(one, hours, Rules(2, 1, 0, concurrency=1)).ends.tolist() == [1800, 3600]


def test_clients_without_rows_are_never_asked():
    empty = THREE._replace(rows=np.array([5, 0, 7]))
    found = synchronous(empty, always(3), Rules(2, 3, 0))
    assert found.sizes.tolist() == [2, 2]
    assert found.asked.tolist() == [2, 2]
    assert 1 not in found.clients[:, :2]


def test_sites_that_are_lost_have_worked_for_nothing():
    """Lost before: after 0.5 seconds. Lost after: after 1.5, before the upload's half."""
    count = 4000
    same = tasks([3] * count, [2] * count, [0.5] * count, [0.5] * count, [0.5] * count)
    found = synchronous(same, always(count), Rules(1, count, 7, drop_out=0.2, drop_out_late=0.3))
    seconds, numbers = np.unique(found.sites.busy, return_counts=True)
    assert seconds.tolist() == [0.5, 1.5, 2.0]
    np.testing.assert_allclose(numbers / count, [0.2, 0.3, 0.5], atol=0.03)  # four standard errors
    assert found.sites.lost.sum() == numbers[:2].sum()
    assert found.sizes.tolist() == [numbers[2]]
    assert found.asked.tolist() == [count]


def test_a_round_without_any_update_ends_when_the_last_is_lost():
    found = synchronous(THREE, always(3), Rules(1, 3, 0, drop_out=1 - 1e-12))
    assert found.sizes.tolist() == [0]
    assert found.ends.tolist() == [1]


def test_cohorts_are_drawn_evenly_and_a_longer_run_begins_as_a_shorter_one():
    same = tasks([3] * 6, [1] * 6, [0] * 6, [1] * 6, [0] * 6)
    long, short = (synchronous(same, always(6), Rules(rounds, 2, 1, drop_out=0.1)) for rounds in (600, 40))
    drawn = long.sites.taken + long.sites.lost
    assert drawn.sum() == 1200
    assert abs(drawn - 200).max() < 50  # over four standard errors
    assert long.sites.taken.sum() == long.sizes.sum()
    for ours, theirs in zip(long[:6], short[:6], strict=True):
        np.testing.assert_array_equal(ours[:40], theirs)


def test_asynchronous_by_hand():
    """Done after 2, 4 and 7 seconds, all three at work at once; the server steps at every second update.

    0 comes at 2 and waits in the buffer: it is not asked again before the step. 1 comes at 4: step 1. Both begin anew
    at 4. 0 comes at 6; 2 comes at 7 from the first params: step 2, in which 0 is 0 steps old (it began after step 1)
    and 2 is 1. At 7 both begin again; 1 comes at 8 from after step 1 (1 step old), 0 at 9: step 3. Then 2 is at work
    until 14, 0 and 1 begin at 9: 0 comes at 11, 1 at 13: step 4.
    """
    found = asynchronous(THREE, always(3), Rules(rounds=4, size=2, seed=0, concurrency=3))
    assert found.ends.tolist() == [4, 7, 9, 13]
    assert found.clients.tolist() == [[1, 0], [2, 0], [1, 0], [1, 0]]
    assert found.ages.tolist() == [[0, 0], [1, 0], [1, 0], [0, 0]]
    assert found.steps.tolist() == [[4, 2], [6, 2], [4, 2], [4, 2]]
    assert found.asked.tolist() == [3, 2, 2, 2]
    assert found.sites.taken.tolist() == [4, 3, 1]
    assert found.sites.waiting.tolist() == [2 + 1 + 0 + 2, 0 + 1 + 0, 0]
    assert found.sites.busy.tolist() == [8, 12, 7]


def test_fewer_work_at_once_than_there_are():
    """One site at a time, and the server takes each update: nobody is ever behind."""
    found = asynchronous(THREE, always(3), Rules(6, 1, 3, concurrency=1))
    assert not found.ages.any()
    np.testing.assert_array_equal(np.diff(found.ends, prepend=0), THREE.whole[found.clients[:, 0]])
    assert found.asked.tolist() == [1] * 6


def test_asynchronous_sites_come_when_they_are_there():
    """The second is there from 3 on, the first always; two must come to a step."""
    half = tasks([4, 4], [1, 1], [0, 0], [1800, 1800], [0, 0])
    hours = always(2)
    hours[1, :3] = False
    found = asynchronous(half, hours, Rules(2, 2, 0, concurrency=2))
    assert (found.ends / HOUR).tolist() == [3.5, 4.0]
    assert (found.sites.waiting / HOUR).tolist() == [3.0, 0.0]


def test_lost_sites_are_asked_again():
    found = asynchronous(THREE, always(3), Rules(50, 2, 0, drop_out=0.3, drop_out_late=0.3, concurrency=3))
    assert found.sizes.tolist() == [2] * 50
    assert found.sites.taken.sum() == 100
    assert 0.5 < found.sites.lost.sum() / (found.sites.lost.sum() + 100) < 0.7
    assert found.asked.sum() >= 100 + found.sites.lost.sum()


@pytest.mark.parametrize("size", [3, 6])
def test_asynchronous_is_synchronous_where_all_sites_are_equal_and_the_buffer_is_the_cohort(size):
    same = tasks([3] * 6, [2] * 6, [0.3] * 6, [0.7] * 6, [0.1] * 6)
    one, other = (
        compute(same, always(6), Rules(20, size, 5, concurrency=size)) for compute in (synchronous, asynchronous)
    )
    for ours, theirs in zip((*one[:6], *one.sites), (*other[:6], *other.sites), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_buffer_that_all_sites_fill_is_synchronous_however_they_differ():
    one, other = (
        synchronous(THREE, always(3), Rules(4, 3, 0)),
        asynchronous(THREE, always(3), Rules(4, 3, 0, concurrency=3)),
    )
    for ours, theirs in zip((*one[:6], *one.sites), (*other[:6], *other.sites), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_sites_that_never_come_are_refused():
    never = np.zeros((3, 24), bool)
    with pytest.raises(UsageError, match=r"participation.profiles: got sites of which none with rows is ever there"):
        synchronous(THREE, never, Rules(1, 3, 0))
    with pytest.raises(UsageError, match=r"participation.buffer: got 2, of 1 sites that hold rows"):
        asynchronous(THREE._replace(rows=np.array([0, 0, 4])), always(3), Rules(1, 2, 0, concurrency=2))
