"""`leveret pub` and `leveret sub` against this broker and mosquitto's, and with mosquitto's clients."""

import contextlib
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from checks import AMQP_PORT, DEADLINE_S, HOST, MQTT_PORT, STARTED, Mismatch, expect, run, unique

OURS = [os.environ["INTEROP_BINARY"]]
PUBS = {"ours": [*OURS, "pub"], "theirs": ["mosquitto_pub"]}
SUBS = {"ours": [*OURS, "sub"], "theirs": ["stdbuf", "-oL", "mosquitto_sub"]}
VERSIONS = ("31", "311", "5")
MARK = "message|"


@contextlib.contextmanager
def mosquitto():
    """A mosquitto broker of this script's own: its port."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    directory = tempfile.mkdtemp(prefix="leveret-interop-")
    path = os.path.join(directory, "mosquitto.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"listener {port} {HOST}\nallow_anonymous true\n")
    process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", path], stderr=subprocess.DEVNULL)
    STARTED.append(process)
    end = time.monotonic() + DEADLINE_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                break
        if process.poll() is not None or time.monotonic() > end:
            raise Mismatch("mosquitto does not start")
        time.sleep(0.05)
    yield port
    process.terminate()
    process.wait(timeout=DEADLINE_S)
    shutil.rmtree(directory)


def publish(program, port, *options):
    """Publishes; the tool must end well."""
    command = [*PUBS[program], "-h", HOST, "-p", str(port), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0 or done.stderr:
        raise Mismatch(f"{' '.join(command)}: exit {done.returncode}: {done.stderr}{done.stdout}")


class Sub:
    """A subscriber, subscribed before the constructor returns; both tell so in the same words."""

    def __init__(self, program, port, *options, form="%t|%q|%r|%p"):
        command = [*SUBS[program], "-h", HOST, "-p", str(port), "-d", "-F", MARK + form, *options]
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        STARTED.append(self.process)
        threading.Thread(target=self._read, daemon=True).start()
        # What is retained, or waits in the session, may come before it is subscribed.
        self.early = []
        line = ""
        while not line.startswith("Subscribed (mid"):
            line = self._line()
            if line.startswith(MARK):
                self.early.append(line)

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def _line(self):
        try:
            return self.lines.get(timeout=DEADLINE_S)
        except queue.Empty:
            raise Mismatch(f"the subscriber said nothing for {DEADLINE_S} s") from None

    def receive(self):
        """The next message, in the form that was asked for."""
        while True:
            line = self.early.pop(0) if self.early else self._line()
            if line.startswith(MARK):
                return line[len(MARK) :]

    def ended(self):
        """How it ends by itself."""
        return self.process.wait(timeout=DEADLINE_S)

    def stop(self):
        """How it ends by SIGTERM."""
        self.process.terminate()
        return self.ended()


def pairs(port, downgraded):
    """Every publisher with every subscriber, but for mosquitto's pair, in every version and QoS."""
    for pub, sub in (("ours", "ours"), ("ours", "theirs"), ("theirs", "ours")):
        for version in VERSIONS:
            for qos in (0, 1, 2):
                topic = unique("terminal")
                options = ["-V", version, "-q", str(qos)]
                subscriber = Sub(sub, port, "-t", topic + "/#", "-C", "2", *options)
                publish(pub, port, "-t", topic + "/a", "-m", "täxt with blanks", *options)
                publish(pub, port, "-t", topic, "-n", *options)
                what = f"{pub} to {sub}, {version}, QoS {qos}"
                got = min(qos, 1) if downgraded else qos
                expect(what, subscriber.receive(), f"{topic}/a|{got}|0|täxt with blanks")
                expect(what, subscriber.receive(), f"{topic}|{got}|0|")
                expect(what, subscriber.ended(), 0)


def every_pair_through_this_broker():
    pairs(MQTT_PORT, True)


def every_pair_through_mosquitto():
    with mosquitto() as port:
        pairs(port, False)


def properties_either_way():
    says = ["-D", "publish", "content-type", "text/plain", "-D", "publish", "user-property", "a",
            "b", "-D", "publish", "correlation-data", "cd", "-D", "publish", "response-topic",
            "r/t", "-D", "publish", "message-expiry-interval", "60"]
    form = "%t|%C|%P|%D|%R|%E|%p"
    with mosquitto() as theirs:
        for port in (MQTT_PORT, theirs):
            for pub, sub in (("ours", "theirs"), ("theirs", "ours")):
                topic = unique("properties")
                subscriber = Sub(sub, port, "-V", "5", "-t", topic, "-C", "1", form=form)
                publish(pub, port, "-V", "5", "-t", topic, "-m", "m", *says)
                want = f"{topic}|text/plain|a:b|cd|r/t|60|m"
                got = subscriber.receive()
                # mosquitto_sub ends the list of user properties with a blank, or not.
                expect(f"{pub} to {sub}", got.replace("a:b |", "a:b|"), want)


def retained_and_sessions():
    with mosquitto() as theirs:
        for port in (MQTT_PORT, theirs):
            for pub, sub in (("ours", "theirs"), ("theirs", "ours")):
                topic = unique("retained")
                publish(pub, port, "-t", topic, "-m", "kept", "-r", "-q", "1")
                # With a count, it might end before it says that it is subscribed.
                subscriber = Sub(sub, port, "-t", topic, "-q", "1")
                expect("retained", subscriber.receive(), f"{topic}|1|1|kept")
                expect("stopped", subscriber.stop(), 0)
                session = ["-i", unique("session"), "-c", "-q", "1", "-t", topic + "/s"]
                first = Sub(sub, port, *session)
                expect("stopped", first.stop(), 0)
                publish(pub, port, "-t", topic + "/s", "-m", "waited", "-q", "1")
                again = Sub(sub, port, *session)
                expect("of the session", again.receive(), f"{topic}/s|1|0|waited")
                expect("stopped", again.stop(), 0)


def amqp_beside_mqtt():
    topic = unique("bridge")
    mqtt = Sub("ours", MQTT_PORT, "-t", topic + "/+", "-C", "1")
    url = f"amqp://guest:guest@{HOST}:{AMQP_PORT}/%2f"
    done = subprocess.run(
        [*OURS, "pub", "-L", url, "-t", topic + "/a", "-m", "over AMQP", "--mandatory"],
        capture_output=True, text=True, timeout=60, check=False,
    )
    expect("published", (done.returncode, done.stderr), (0, ""))
    expect("at MQTT", mqtt.receive(), f"{topic}/a|0|0|over AMQP")


if __name__ == "__main__":
    run(
        [
            every_pair_through_this_broker,
            every_pair_through_mosquitto,
            properties_either_way,
            retained_and_sessions,
            amqp_beside_mqtt,
        ]
    )
