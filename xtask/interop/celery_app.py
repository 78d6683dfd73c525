"""The Celery application that celery_features.py drives: its tasks, and what the workers run."""

import functools
import os
import signal
import time

import celery
from kombu import Exchange, Queue

NAME = os.environ["INTEROP_CELERY_NAME"]

app = celery.Celery(NAME, broker=os.environ["INTEROP_CELERY_BROKER"],
                    backend=os.environ["INTEROP_CELERY_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    result_expires=600,
    result_extended=True,
    result_chord_retry_interval=0.2,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_default_queue=NAME,
    task_default_queue_type=os.environ.get("INTEROP_CELERY_QUEUE_TYPE", "classic"),
    task_send_sent_event=True,
    worker_send_task_events=True,
    worker_prefetch_multiplier=1,
)
if app.conf.task_default_queue_type == "classic":
    app.conf.task_queues = [
        Queue(NAME, Exchange(NAME, "direct"), NAME),
        Queue(f"{NAME}-media", Exchange(f"{NAME}-topics", "topic"), "media.#"),
    ]
    app.conf.task_routes = {"celery_app.encode": {
        "exchange": f"{NAME}-topics", "exchange_type": "topic", "routing_key": "media.video.new"}}

# A script that imports this module for several brokers has several applications.
task = functools.partial(app.task, shared=False)


@task()
def add(x, y):
    return x + y


@task(bind=True, max_retries=3)
def twice_refused(self, number):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1, exc=RuntimeError("not yet"))
    return number, self.request.retries


@task()
def fails():
    raise ValueError("as intended")


@task()
def sleeps(seconds):
    time.sleep(seconds)
    return seconds


@task(bind=True)
def encode(self):
    return self.request.delivery_info["routing_key"]


@task(bind=True)
def note(self, path, text):
    """Appends to a file, which outlives the process that ran it."""
    with open(path, "a", encoding="utf-8") as notes:
        notes.write(f"{text}{' again' if self.request.delivery_info['redelivered'] else ''}\n")


@task(bind=True)
def dies_once(self, path):
    """Kills its own process at the first time: the task must come back."""
    with open(path, "a", encoding="utf-8") as notes:
        notes.write("begun\n")
    with open(path, encoding="utf-8") as notes:
        begun = len(notes.readlines())
    if begun == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return begun, self.request.delivery_info["redelivered"]


@task()
def total(numbers):
    return sum(numbers)
