"""Celery end to end: workers of a real application, its tasks, workflows, events and commands."""

import contextlib
import importlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from checks import AMQP_PORT, DEADLINE_S, HOST, STARTED, Mismatch, eventually, expect, run, unique

BROKER = f"amqp://guest:guest@{HOST}:{AMQP_PORT}//"
HERE = pathlib.Path(__file__).parent


class Application:
    """An application with a worker of its own, as `celery worker` runs it."""

    def __init__(self, backend="rpc://", **settings):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="leveret-celery-"))
        self.name = unique("celery")
        if backend == "sqlite":
            backend = f"db+sqlite:///{self.directory / 'results'}"
        os.environ.update(INTEROP_CELERY_NAME=self.name, INTEROP_CELERY_BROKER=BROKER,
                          INTEROP_CELERY_BACKEND=backend)
        os.environ.update(settings)
        sys.modules.pop("celery_app", None)
        self.tasks = importlib.import_module("celery_app")
        self.app = self.tasks.app
        self.environment = dict(os.environ)
        for name in settings:
            del os.environ[name]
        self.node = f"{self.name}@here"
        self.worker = None

    def __enter__(self):
        self.start()
        return self

    def start(self):
        """Starts the worker and waits until it answers."""
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--hostname",
                   self.node, "--concurrency", "2", "--loglevel", "INFO", "--events"]
        with open(self.directory / "log", "ab") as log:
            self.worker = subprocess.Popen(command, cwd=HERE, env=self.environment, stdout=log,
                                           stdin=subprocess.DEVNULL, stderr=log,
                                           start_new_session=True)
        STARTED.append(self.worker)
        try:
            eventually("the worker answers", self.ping, {"ok": "pong"})
        except Mismatch as silent:
            # With its pool: nobody else ends that.
            os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait()
            raise Mismatch(f"{silent}\n{self.log()}") from None

    def ping(self):
        return (self.inspect().ping() or {}).get(self.node)

    def inspect(self):
        return self.app.control.inspect([self.node], timeout=1.0)

    def log(self):
        """The end of what the worker has said."""
        return (self.directory / "log").read_text(errors="replace")[-4000:]

    def stop(self):
        """Ends the worker as a service manager does, which kills what is left of it."""
        self.worker.terminate()
        try:
            return self.worker.wait(timeout=4 * DEADLINE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.worker.pid, signal.SIGKILL)

    def __exit__(self, *unused):
        code = self.stop() if self.worker.poll() is None else 0
        self.app.close()
        log = self.log()
        shutil.rmtree(self.directory)
        if code != 0:
            raise Mismatch(f"the worker ended with {code}:\n{log}")


def got(result):
    """A task's result, before the deadline."""
    return result.get(timeout=DEADLINE_S)


def tasks_and_results():
    with Application() as application:
        tasks = application.tasks
        expect("add", got(tasks.add.delay(2, 3)), 5)
        results = [tasks.add.delay(number, 1) for number in range(20)]
        expect("twenty", [got(result) for result in results], list(range(1, 21)))
        failed = tasks.fails.delay()
        try:
            got(failed)
        except ValueError as error:
            expect("the exception travels", str(error), "as intended")
        expect("state", failed.state, "FAILURE")
        expect("routed by topic", got(tasks.encode.delay()), "media.video.new")


def retries_and_times():
    with Application() as application:
        tasks = application.tasks
        expect("retried", got(tasks.twice_refused.delay(7)), [7, 2])
        begun = time.monotonic()
        expect("countdown", got(tasks.add.apply_async((1, 1), countdown=1)), 2)
        if time.monotonic() - begun < 0.9:
            raise Mismatch("the task ran before its time")
        expired = tasks.add.apply_async((1, 1), countdown=1, expires=0.2)
        try:
            got(expired)
        except Exception as error:  # noqa: BLE001 - the class is what is checked
            expect("expired", type(error).__name__, "TaskRevokedError")


def workflows():
    """Chains, groups and chords; a chord takes a backend that can be asked again."""
    from celery import chain, chord, group
    with Application("sqlite") as application:
        tasks = application.tasks
        expect("chain", got(chain(tasks.add.s(1, 2), tasks.add.s(10), tasks.add.s(100))()), 113)
        expect("group", got(group(tasks.add.s(n, n) for n in range(5))()), [0, 2, 4, 6, 8])
        expect("chord", got(chord((tasks.add.s(n, n) for n in range(5)), tasks.total.s())()), 20)
        nested = chain(group(tasks.add.s(1, 1), tasks.add.s(2, 2)), tasks.total.s(),
                       tasks.add.s(1))
        expect("nested", got(nested()), 7)
        expect("chunks", got(tasks.add.chunks(zip(range(4), range(4), strict=True), 2)()),
               [[0, 2], [4, 6]])
        expect("map", got(tasks.total.map([[1, 2], [3]]).delay()), [3, 3])


def events_are_received():
    with Application() as application:
        seen = []

        def capture():
            with application.app.connection() as connection:
                receiver = application.app.events.Receiver(
                    connection, handlers={"*": lambda event: seen.append(event)})
                with contextlib.suppress(TimeoutError, OSError):
                    receiver.capture(limit=None, timeout=DEADLINE_S, wakeup=True)

        threading.Thread(target=capture, daemon=True).start()
        # The consumer may not be there yet: heartbeats of the worker tell when it is.
        eventually("a heartbeat", lambda: any(e["type"] == "worker-heartbeat" for e in seen), True)
        result = application.tasks.add.delay(1, 2)
        expect("result", got(result), 3)

        def types():
            return [event["type"] for event in seen if event.get("uuid") == result.id]

        eventually("a task's life", lambda: sorted(types()),
                   ["task-received", "task-sent", "task-started", "task-succeeded"])


def remote_control():
    with Application() as application:
        tasks, control = application.tasks, application.app.control
        node, inspect = application.node, application.inspect
        expect("registered", "celery_app.add" in inspect().registered()[node], True)
        expect("queues", sorted(queue["name"] for queue in inspect().active_queues()[node]),
               [application.name, f"{application.name}-media"])
        running = tasks.sleeps.delay(60)
        eventually("active", lambda: [task["id"] for task in inspect().active()[node]],
                   [running.id])
        waiting = tasks.add.apply_async((1, 1), countdown=600)
        eventually("scheduled",
                   lambda: [task["request"]["id"] for task in inspect().scheduled()[node]],
                   [waiting.id])
        control.revoke(running.id, terminate=True, signal="SIGKILL")
        eventually("ended", lambda: inspect().active()[node], [])
        control.revoke(waiting.id)
        eventually("revoked", lambda: waiting.id in inspect().revoked()[node], True)
        extra = f"{application.name}-extra"
        expect("consumes another queue",
               control.add_consumer(extra, reply=True, destination=[node])[0][node]["ok"],
               f"add consumer {extra}")
        expect("from it", got(tasks.add.apply_async((2, 2), queue=extra)), 4)
        expect("cancelled", "ok" in control.cancel_consumer(
            extra, reply=True, destination=[node])[0][node], True)
        expect("rate", "ok" in control.rate_limit(
            "celery_app.add", "10/m", reply=True, destination=[node])[0][node], True)


def tasks_survive_their_worker():
    with Application() as application:
        notes = application.directory / "notes"
        expect("redelivered", got(application.tasks.dies_once.delay(str(notes))), [2, True])
        expect("ends in order", application.stop(), 0)
        kept = application.directory / "kept"
        for number in range(3):
            application.tasks.note.delay(str(kept), str(number))
        with application.app.connection() as connection:
            queue = application.app.amqp.queues[application.name](connection.default_channel)
            eventually("kept by the broker",
                       lambda: queue.queue_declare(passive=True).message_count, 3)
        application.start()
        eventually("run by the next one",
                   lambda: sorted(kept.read_text().split()) if kept.exists() else [],
                   ["0", "1", "2"])


def purge_and_direct_results():
    with Application() as application:
        application.stop()
        for _ in range(4):
            application.tasks.add.delay(1, 1)

        def purged():
            return application.app.control.purge()

        with application.app.connection() as connection:
            queue = application.app.amqp.queues[application.name](connection.default_channel)
            eventually("there", lambda: queue.queue_declare(passive=True).message_count, 4)
        expect("purged", purged(), 4)
        expect("empty", purged(), 0)


def quorum_queues_with_delayed_delivery():
    """With quorum queues, Celery delays a task by a cascade of queues that dead-letter."""
    with Application(INTEROP_CELERY_QUEUE_TYPE="quorum") as application:
        tasks = application.tasks
        expect("at once", got(tasks.add.delay(1, 2)), 3)
        begun = time.monotonic()
        expect("later", got(tasks.add.apply_async((3, 4), countdown=2)), 7)
        if time.monotonic() - begun < 1.5:
            raise Mismatch("the task ran before its time")


if __name__ == "__main__":
    run(
        [
            tasks_and_results,
            retries_and_times,
            workflows,
            events_are_received,
            remote_control,
            tasks_survive_their_worker,
            purge_and_direct_results,
            quorum_queues_with_delayed_delivery,
        ],
        go_on=True,
    )
