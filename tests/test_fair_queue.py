"""The queue for expensive work: its order, its fairness, and what happens to those who do not get a slot."""

import ctypes
import threading
import time
from collections.abc import Callable

import pytest

from framework.fair_queue import FairQueue, QueueFullError, Waiter


class Caller(threading.Thread):
    """A thread that asks for a slot, notes that it got one, and keeps it until it is told to go."""

    def __init__(self, queue: FairQueue, client: str, served: list[str], name: str = "") -> None:
        super().__init__(daemon=True)
        self.queue, self.client, self.served, self.name = queue, client, served, name or client
        self.retry_after: int | None = None
        self.may_leave = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with self.queue.slot(self.client):
                self.served.append(self.name)
                self.may_leave.wait(30)
        except QueueFullError as error:
            self.retry_after = error.retry_after
        except KeyboardInterrupt:
            pass


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came about")


def enqueue(queue: FairQueue, served: list[str], *names: str) -> list[Caller]:
    """Let callers come one after the other; the letter of a name is its client."""
    callers = []
    for name in names:
        before = len(queue)
        callers.append(Caller(queue, name[0], served, name))
        until(lambda before=before: len(queue) > before)
    return callers


def serve_all(served: list[str], callers: list[Caller]) -> None:
    """Let each caller leave as soon as it has its slot."""
    for caller in callers:
        caller.may_leave.set()
    for caller in callers:
        caller.join(30)


@pytest.fixture
def served() -> list[str]:
    """The names of the callers that got a slot, in that order."""
    return []


def test_free_slot_is_given_at_once(served):
    queue = FairQueue(slots=2, length=0, seconds=30)

    callers = [Caller(queue, "a", served) for _ in range(2)]

    until(lambda: len(served) == 2)
    assert len(queue) == 0
    serve_all(served, callers)


def test_clients_are_served_in_the_order_in_which_they_came(served):
    queue = FairQueue(slots=1, length=10, seconds=30)

    with queue.slot("somebody"):
        callers = enqueue(queue, served, "a", "b", "c", "d")
    serve_all(served, callers)

    assert served == ["a", "b", "c", "d"]


def test_client_with_many_callers_takes_turns_with_the_others(served):
    queue = FairQueue(slots=1, length=10, seconds=30)

    with queue.slot("somebody"):
        callers = enqueue(queue, served, "a1", "a2", "a3", "a4", "b1", "c1", "b2")
    serve_all(served, callers)

    assert served == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_no_more_work_at_the_same_time_than_there_are_slots():
    queue, working, most = FairQueue(slots=2, length=100, seconds=30), [], []

    def work(number):
        with queue.slot(str(number % 5)):
            working.append(number)
            most.append(len(working))
            time.sleep(0.001)
            working.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(most) == 40
    assert max(most) == 2
    assert len(queue) == 0


def test_full_queue_turns_away_the_newest_caller_of_the_client_with_the_most(served):
    queue = FairQueue(slots=1, length=4, seconds=30)

    with queue.slot("somebody"):
        callers = enqueue(queue, served, "a1", "b1", "a2", "a3")
        callers.append(Caller(queue, "c", served, "c1"))
        until(lambda: callers[3].retry_after is not None)
    serve_all(served, callers)

    assert served == ["a1", "b1", "c1", "a2"]


@pytest.mark.parametrize("waiting", [("a1", "a2", "b1"), ("a1", "b1", "c1")])
def test_full_queue_turns_the_newcomer_away_when_nobody_has_more(served, waiting):
    queue = FairQueue(slots=1, length=3, seconds=30)

    with queue.slot("somebody"):
        callers = enqueue(queue, served, *waiting)
        newcomer = Caller(queue, "a", served, "newcomer")
        until(lambda: newcomer.retry_after is not None)
    serve_all(served, callers)

    assert sorted(served) == sorted(waiting)


def test_caller_that_has_waited_too_long_is_turned_away_and_leaves_the_queue(served):
    queue = FairQueue(slots=1, length=3, seconds=0.02)

    with queue.slot("somebody"):
        caller = Caller(queue, "a", served)
        until(lambda: caller.retry_after is not None)

    assert len(queue) == 0
    later = Caller(queue, "b", served)
    serve_all(served, [later])
    assert served == ["b"]


def raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    """Raise an error in a thread, as a server does with one that takes too long."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error))


def test_waiting_thread_that_dies_leaves_the_queue(served):
    queue = FairQueue(slots=1, length=3, seconds=0.2)

    with queue.slot("somebody"):
        dying, caller = enqueue(queue, served, "a", "b")
        raise_in(dying, KeyboardInterrupt)  # it notices when it wakes
        until(lambda: not dying.is_alive())
        assert dying.retry_after is None
        caller.join(30)

    assert len(queue) == 0
    serve_all(served, [Caller(queue, "c", served)])
    assert served == ["c"]


def test_waiting_thread_that_dies_as_it_gets_its_slot_passes_it_on(served, monkeypatch):
    queue, sleep = FairQueue(slots=1, length=3, seconds=30), Waiter.sleep

    def sleep_and_die(waiter, seconds):
        sleep(waiter, seconds)
        if threading.current_thread().name == "a":
            raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "sleep", sleep_and_die)

    with queue.slot("somebody"):
        dying, caller = enqueue(queue, served, "a", "b")
    serve_all(served, [dying, caller])

    assert served == ["b"]
    assert dying.retry_after is None


def test_work_that_fails_gives_its_slot_back(served):
    queue = FairQueue(slots=1, length=3, seconds=30)

    with pytest.raises(ValueError, match="work"), queue.slot("a"):
        raise ValueError("work")

    serve_all(served, [Caller(queue, "b", served)])
    assert served == ["b"]


@pytest.mark.parametrize(("slots", "seconds", "expected"), [(1, 0.1, 1), (1, 2.0, 10), (2, 2.0, 6)])
def test_retry_after_is_the_time_that_the_queue_needs(served, slots, seconds, expected):
    queue = FairQueue(slots=slots, length=4, seconds=30, typical_seconds=seconds)
    callers = [Caller(queue, "working", served) for _ in range(slots)]
    until(lambda: len(served) == slots)
    callers += enqueue(queue, served, "a", "b", "c", "d")

    assert queue.retry_after() == expected

    serve_all(served, callers)


def test_retry_after_learns_how_long_the_work_takes():
    queue = FairQueue(slots=1, length=4, seconds=30, typical_seconds=60.0)

    for _ in range(30):
        with queue.slot("a"):
            pass
    with queue.slot("a"):
        assert queue.retry_after() == 1
