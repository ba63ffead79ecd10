"""The queue before the inference thread: who is let in, whose turn it is, and who is told to come again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_runtime.serving.queue import BatchLimits, Job, OverloadedError, RequestQueue, UnfairShareError

ALONE = BatchLimits(pictures=1, pixels=1, wait_s=0.0)


def _job(user: str = "a", *, arrived: float = 0.0, deadline: float = math.inf) -> Job[str]:
    return Job(user, "key", 1, 1, user, arrived, deadline)


def test_a_lone_user_is_stopped_at_half_so_that_others_find_room() -> None:
    queue: RequestQueue[str] = RequestQueue(8, ALONE)
    for _ in range(4):
        queue.push(_job("greedy"))
    with pytest.raises(UnfairShareError, match="the share of one is 4"):
        queue.push(_job("greedy"))
    for index in range(4):
        queue.push(_job(f"other-{index}"))
    with pytest.raises(OverloadedError, match="8 are let in"):
        queue.push(_job("late"))


def test_places_are_free_again_when_the_batch_is_done() -> None:
    queue: RequestQueue[str] = RequestQueue(1, ALONE)
    queue.push(_job())
    jobs, _ = queue.take(0.0)
    with pytest.raises(OverloadedError):
        queue.push(_job())  # it runs, and still has its place
    queue.done(jobs, 0.5)
    queue.push(_job())
    assert queue.depth == 1


def test_retry_after_follows_the_measured_rate() -> None:
    queue: RequestQueue[str] = RequestQueue(64, ALONE)
    assert queue.retry_after_s() == 1
    for _ in range(10):
        queue.push(_job())
    jobs, _ = queue.take(0.0)
    queue.done(jobs, 3.0)
    assert queue.retry_after_s() == 27  # nine wait, three seconds each
    jobs, _ = queue.take(0.0)
    queue.done(jobs, 1000.0)
    assert queue.retry_after_s() == 60


def test_passed_deadlines_and_lost_clients_leave_the_queue() -> None:
    queue: RequestQueue[str] = RequestQueue(8, ALONE)
    jobs = [_job("a", deadline=1.0), _job("b", deadline=2.0), _job("c")]
    for job in jobs:
        queue.push(job)
    assert queue.next_deadline_s() == 1.0
    assert queue.drop(0.5) == []
    assert queue.drop(1.0) == [jobs[0]]
    jobs[2].gone = True
    assert queue.drop(1.5) == [jobs[2]]
    assert queue.depth == 1
    assert queue.take(1.5)[0] == [jobs[1]]
    assert queue.drop(3.0) == []  # what has begun is finished


def test_a_request_without_key_waits_for_nobody_and_joins_nobody() -> None:
    queue: RequestQueue[str] = RequestQueue(8, BatchLimits(pictures=4, pixels=4, wait_s=1.0))
    loners = [Job(name, None, 1, 1, name, 0.0) for name in "ab"]
    for job in loners:
        queue.push(job)
    assert queue.take(0.0)[0] == loners[:1]
    assert queue.take(0.0)[0] == loners[1:]
    queue.push(_job())
    assert queue.take(0.0) == ([], 1.0)  # one with a key does wait


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 12),
    st.lists(
        st.tuples(st.sampled_from(["push", "take", "drop"]), st.sampled_from("abcd"), st.floats(0.0, 3.0)),
        max_size=60,
    ),
)
def test_no_place_is_lost_or_given_twice(limit: int, steps: list[tuple[str, str, float]]) -> None:
    queue: RequestQueue[str] = RequestQueue(limit, ALONE)
    inside: list[Job[str]] = []
    now = 0.0
    for action, user, amount in steps:
        if action == "push":
            job = _job(user, arrived=now, deadline=now + amount)
            try:
                queue.push(job)
            except (OverloadedError, UnfairShareError):
                assert 2 * queue.depth >= limit
            else:
                inside.append(job)
        elif action == "take":
            jobs, _ = queue.take(now)
            assert jobs == inside[: len(jobs)]
            inside = inside[len(jobs) :]
            if jobs:
                queue.done(jobs, amount)
        else:
            now += amount
            dropped = queue.drop(now)
            assert all(job.deadline_s <= now for job in dropped)
            inside = [job for job in inside if job not in dropped]
            assert all(job.deadline_s > now for job in inside)
        assert queue.depth == len(inside) <= limit
