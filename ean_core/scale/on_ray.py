"""Tasks on the machines of a Ray cluster, by the library Ray."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ean_core.errors import UserError, first_line
from ean_core.scale import worker as program
from ean_core.scale.outcome import LOOK, TRIES, Outcome, cores, died
from ean_core.stopping import SIGNALS, stop_if_asked

PREFIX, CLIENT_PORT = "ray://", 10001
REACH = 5.0  # seconds in which a cluster's address must answer


class RayEngine:
    """An :class:`~ean_core.scale.Engine` of the tasks of Ray.

    The work directory and the data lie at the same path on all machines, and this package is installed on each. Tasks
    begin in the folder of this process, and import from where it does. A process that is connected to Ray already stays
    so, whatever the address.

    Args:
        address: ``HOST:PORT`` of the cluster's client server. Where it is "": what ``RAY_ADDRESS`` says, or a Ray of
            its own on this machine.
        workers: See :func:`~ean_core.scale.build_engine`, as ``cpus`` and ``gpus``. ``cpus`` is at most what the
            largest machine has where it is not given.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or no machine in it has so many cores or
            GPUs.
    """

    def __init__(self, address: str, *, workers: int | None, cpus: int | None, gpus: float) -> None:
        self._address = PREFIX + address if address else os.environ.get("RAY_ADDRESS") or "local"
        if self._address.startswith(PREFIX) and ":" not in self._address.removeprefix(PREFIX):
            self._address += f":{CLIENT_PORT}"
        self._local_cores = max(cores(), (workers or 1) * (cpus or 1))
        self._connected = False
        ray = self._connect()
        machines = [Counter(node["Resources"]) for node in ray.nodes() if node["Alive"]]
        if cpus is None:
            largest = max(machine["CPU"] for machine in machines)
            cpus = max(1, int(min(largest, sum(machine["CPU"] for machine in machines) // workers if workers else 1)))
        room = [min(m["CPU"] // cpus, m["GPU"] / gpus if gpus else m["CPU"]) for m in machines]
        if sum(map(int, room)) < 1:
            self.close()
            raise UserError(
                f"no machine of the Ray cluster has the {cpus} cores and {gpus:g} GPUs that a task asks for"
            )
        self.workers = workers or sum(map(int, room))
        self._cpus, self._gpus = cpus, gpus

    def run(self, function: str, arguments: Sequence[Mapping[str, Any]]) -> Iterator[Outcome]:
        """See :meth:`ean_core.scale.Engine.run`."""
        ray = self._connect()
        # Ray itself starts a task again as often as it likes where memory has run out, so it is counted here.
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_retries": 0, "max_calls": 0}
        ray.cloudpickle.register_pickle_by_value(program)  # this package may be importable only with its `path`
        task = ray.remote(**options)(program.call_there)
        environment = {"OMP_NUM_THREADS": str(self._cpus), "MKL_NUM_THREADS": str(self._cpus)}
        if not self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        common = {"path": [os.path.abspath(p) for p in sys.path], "folder": os.getcwd(), "environment": environment}
        waiting, tries = deque(range(len(arguments))), Counter[int]()
        given: dict[Any, int] = {}
        try:
            while waiting or given:
                while waiting and len(given) < self.workers:
                    index = waiting.popleft()
                    tries[index] += 1
                    given[task.remote(function=function, arguments=dict(arguments[index]), **common)] = index
                ready, _ = ray.wait(list(given), timeout=LOOK)
                stop_if_asked()
                for one in ready:
                    index = given.pop(one)
                    try:
                        answer = ray.get(one)
                    except ray.exceptions.RayTaskError as error:  # of what is around the function
                        answer = None, f"{type(error.cause).__name__}: {first_line(str(error.cause))}"
                    except ray.exceptions.RayError as error:
                        if tries[index] < TRIES:
                            waiting.appendleft(index)
                            continue
                        answer = None, died(type(error).__name__)
                    yield Outcome(index, *answer)
        except KeyboardInterrupt:
            stop_if_asked()  # Ray raises its own, without the signal's number
            raise
        finally:
            for one in given:
                ray.cancel(one, force=True)

    def close(self) -> None:
        """See :meth:`ean_core.scale.Engine.close`."""
        if self._connected:
            _ray().shutdown()
            self._connected = False

    def _connect(self) -> Any:
        """The module of Ray, connected to the cluster."""
        ray = _ray()
        if not ray.is_initialized():
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
            if self._address == "local":
                options |= {"num_cpus": self._local_cores, "include_dashboard": False}
            else:
                _reach(self._address)
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            try:
                ray.init(self._address, **options)
            except Exception as error:  # Ray raises what happens to be raised
                raise UserError(
                    f"no Ray cluster at '{self._address}': {first_line(str(error))} (one that asks for a token needs "
                    "RAY_AUTH_MODE=token)"
                ) from error
            finally:
                for number, handler in handlers.items():
                    if threading.current_thread() is threading.main_thread():  # where Ray takes SIGTERM
                        signal.signal(number, handler)
            self._connected = True
        return ray


def _ray() -> Any:
    """The module of Ray.

    Raises:
        UserError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'ean[scale]'") from error
    return ray


def _reach(address: str) -> None:
    """Look whether a cluster may be at an address; where there is none Ray itself would try for minutes.

    Raises:
        UserError: Nothing listens there, or something that does not speak gRPC.
    """
    import grpc

    host, found, port = address.removeprefix(PREFIX).rpartition(":")
    if not found:  # a word, such as auto
        return
    if not port.isdecimal():
        raise UserError(f"the address of a Ray cluster is HOST:PORT, got '{address}'")
    try:
        socket.create_connection((host, int(port)), REACH).close()
        if os.environ.get("RAY_USE_TLS", "0") != "1":
            with grpc.insecure_channel(f"{host}:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
                grpc.channel_ready_future(channel).result(REACH)
    except (OSError, OverflowError, grpc.FutureTimeoutError) as error:
        reason = str(error) or "what listens there is no Ray"
        raise UserError(f"no Ray cluster at '{address}': {reason} ('ray start --head' begins one)") from error
