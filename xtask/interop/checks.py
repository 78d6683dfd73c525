"""What the interop scripts share: where the broker is, deadlines, comparisons and clients.

Every script is a list of check functions. Each prints `ok: <check>` and the first failure ends the
script with what was expected and what came instead. Names on the command line select checks.
"""

import json
import os
import queue
import subprocess
import sys
import time
import uuid

import paho.mqtt.client as paho
import pika
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST = "127.0.0.1"
MQTT_PORT = int(os.environ["INTEROP_MQTT_PORT"])
AMQP_PORT = int(os.environ["INTEROP_AMQP_PORT"])

# How long anything may take before the script calls it lost: generous, for a busy machine.
DEADLINE_S = 15.0

# Processes that a check started; those that still run are ended with the script.
STARTED = []

MQTT_VERSIONS = {"3.1": paho.MQTTv31, "3.1.1": paho.MQTTv311, "5": paho.MQTTv5}


class Mismatch(Exception):
    """The broker did something else than expected."""


def expect(what, got, want):
    """Raises unless `got` equals `want`."""
    if got != want:
        raise Mismatch(f"{what}\n  expected: {want!r}\n  got:      {got!r}")


def expect_in(what, part, whole):
    """Raises unless `part` occurs in `whole`."""
    if part not in whole:
        raise Mismatch(f"{what}\n  expected to contain: {part!r}\n  got:                 {whole!r}")


def eventually(what, probe, want):
    """Asks `probe` until it answers `want`, at most for the deadline."""
    end = time.monotonic() + DEADLINE_S
    while True:
        got = probe()
        if got == want:
            return
        if time.monotonic() > end:
            expect(f"{what} (after {DEADLINE_S} s)", got, want)
        time.sleep(0.05)


def unique(prefix):
    """A name that no other check uses, of at most 23 bytes for a prefix of 12 (MQTT 3.1)."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def run(checks, go_on=False):
    """Runs the checks in order and ends the process: 0 when all held, 1 at the first failure.

    With `go_on` the rest runs after a failure as well, so that one run tells all of them.
    """
    failed = 0
    wanted = sys.argv[1:]
    known = {check.__name__: check for check in checks}
    for name in wanted:
        if name not in known:
            sys.exit(f"no check called {name}; there are {', '.join(known)}")
    for name, check in known.items():
        if wanted and name not in wanted:
            continue
        try:
            check()
        except Exception as error:  # noqa: BLE001 - any failure of a check is its result
            print(f"FAIL: {name}: {type(error).__name__}: {error}", flush=True)
            if not isinstance(error, Mismatch):
                import traceback

                traceback.print_exc(file=sys.stdout)
            failed += 1
            if not go_on:
                break
        else:
            print(f"ok: {name.replace('_', ' ')}", flush=True)
    end(1 if failed else 0)


def end(code):
    """Ends the script and what it started."""
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.wait()
    sys.stdout.flush()
    # Client threads may still run; they must not keep a script alive that has its result.
    os._exit(code)


def ctl(*arguments):
    """Runs `leveret ctl` on the broker's data directory and gives its JSON answer."""
    command = [
        os.environ["INTEROP_BINARY"],
        "ctl",
        "--data-dir",
        os.environ["INTEROP_DATA_DIR"],
        *arguments,
        "--formatter",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Mismatch(f"{' '.join(command)} exited with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


# --- AMQP ---------------------------------------------------------------------------------------


def amqp(heartbeat=60):
    """An open pika connection as guest."""
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            HOST,
            AMQP_PORT,
            heartbeat=heartbeat,
            blocked_connection_timeout=DEADLINE_S,
            credentials=pika.PlainCredentials("guest", "guest"),
        )
    )


def take(channel, queue_name, count, auto_ack=True):
    """Consumes exactly `count` messages of a queue as (method, properties, body)."""
    taken = []
    for method, properties, body in channel.consume(
        queue_name, auto_ack=auto_ack, inactivity_timeout=DEADLINE_S
    ):
        if method is None:
            raise Mismatch(f"{queue_name} gave {len(taken)} messages, expected {count}")
        taken.append((method, properties, body))
        if len(taken) == count:
            break
    channel.cancel()
    return taken


def closing_code(action):
    """Runs an action that the server answers by closing the channel: (code, text)."""
    try:
        action()
    except pika.exceptions.ChannelClosedByBroker as closed:
        return closed.reply_code, closed.reply_text
    raise Mismatch("the channel stayed open, expected the broker to close it")


# --- MQTT ---------------------------------------------------------------------------------------


def properties(packet, **values):
    """Properties of an MQTT 5 packet, by paho's names."""
    made = Properties(getattr(PacketTypes, packet))
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Mqtt:
    """A paho client whose calls wait for the broker's answer."""

    def __init__(self, client_id=None, version="5", clean=True, will=None, connect=None):
        self.client_id = unique("paho") if client_id is None else client_id
        self.version = version
        self.clean = clean
        self.connect_properties = connect
        self.messages = queue.Queue()
        self.answers = queue.Queue()
        self.closed = queue.Queue()
        self.connack = None
        arguments = {} if version == "5" else {"clean_session": clean}
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=MQTT_VERSIONS[version],
            reconnect_on_failure=False,
            **arguments,
        )
        self.client.username_pw_set("guest", "guest")
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda c, u, flags, code, p: self.closed.put((code, p))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_subscribe = lambda c, u, mid, codes, p: self.answers.put((mid, codes, p))
        self.client.on_unsubscribe = lambda c, u, mid, codes, p: self.answers.put((mid, codes, p))
        self.client.on_publish = lambda c, u, mid, code, p: self.answers.put((mid, code, p))
        if will is not None:
            self.client.will_set(**will)

    def _on_connect(self, client, userdata, flags, code, answered):
        self.answers.put(("connack", flags.session_present, code, answered))

    def __enter__(self):
        return self.open()

    def __exit__(self, *unused):
        self.close()

    def open(self):
        """Connects; a refusal raises."""
        arguments = {}
        if self.version == "5":
            arguments["clean_start"] = self.clean
            arguments["properties"] = self.connect_properties
        self.client.connect(HOST, MQTT_PORT, keepalive=60, **arguments)
        self.client.loop_start()
        _, present, code, self.connack = self.answers.get(timeout=DEADLINE_S)
        if code.is_failure:
            raise Mismatch(f"CONNECT of {self.client_id} refused: {code}")
        self.session_present = present
        return self

    def _answer(self, mid):
        while True:
            answer = self.answers.get(timeout=DEADLINE_S)
            if answer[0] == mid:
                return answer[1], answer[2]

    def subscribe(self, topic_filter, qos=0, options=None, sent=None):
        """Subscribes and gives the reason code of the SUBACK as a number."""
        if options is None:
            _, mid = self.client.subscribe(topic_filter, qos, properties=sent)
        else:
            _, mid = self.client.subscribe(topic_filter, options=options, properties=sent)
        codes, _ = self._answer(mid)
        return codes[0].value

    def unsubscribe(self, topic_filter):
        """Unsubscribes and gives the reason code of the UNSUBACK, if the version has one."""
        _, mid = self.client.unsubscribe(topic_filter)
        codes, _ = self._answer(mid)
        return codes[0].value if codes else None

    def publish(self, topic, payload=b"", qos=0, retain=False, sent=None):
        """Publishes, waits for the acknowledgement and gives its reason code as a number."""
        info = self.client.publish(topic, payload, qos, retain, properties=sent)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise Mismatch(f"PUBLISH to {topic} was not sent: {paho.error_string(info.rc)}")
        code, _ = self._answer(info.mid)
        return code.value

    def receive(self):
        """The next message; raises when none comes."""
        try:
            return self.messages.get(timeout=DEADLINE_S)
        except queue.Empty:
            raise Mismatch(f"{self.client_id} received nothing for {DEADLINE_S} s") from None

    def receive_until(self, last):
        """All messages up to and with the one whose payload is `last`."""
        received = [self.receive()]
        while received[-1].payload != last:
            received.append(self.receive())
        return received

    def close(self, sent=None):
        """Disconnects with DISCONNECT."""
        self.client.disconnect(properties=sent)
        self.client.loop_stop()

    def drop(self):
        """Closes the socket without DISCONNECT, as a lost device does."""
        self.client.loop_stop()
        self.client.socket().close()
