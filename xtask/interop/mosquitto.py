"""mosquitto_pub and mosquitto_sub against the broker, in MQTT 3.1, 3.1.1 and 5.0."""

import os
import queue
import signal
import subprocess
import threading

from checks import DEADLINE_S, HOST, MQTT_PORT, STARTED, Mismatch, expect, run, unique

VERSIONS = {"31": "3.1", "311": "3.1.1", "5": "5.0"}
MARK = "message|"


def pub(version, topic, message, *options):
    """Publishes once; the tool must end well."""
    body = ["-n"] if message is None else ["-m", message]
    command = ["mosquitto_pub", "-h", HOST, "-p", str(MQTT_PORT), "-V", version, "-t", topic]
    done = subprocess.run(
        [*command, *body, *options], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0 or done.stderr:
        raise Mismatch(f"{' '.join(command)}: exit {done.returncode}: {done.stderr}{done.stdout}")


class Sub:
    """A running mosquitto_sub, subscribed before the constructor returns."""

    def __init__(self, version, filters, *options):
        command = ["stdbuf", "-oL", "mosquitto_sub", "-h", HOST, "-p", str(MQTT_PORT), "-d"]
        command += ["-V", version, "-F", MARK + "%t|%q|%r|%p"]
        for topic_filter in filters:
            command += ["-t", topic_filter]
        self.granted = None
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        STARTED.append(self.process)
        threading.Thread(target=self._read, daemon=True).start()
        while self.granted is None:
            line = self._line()
            if line.startswith("Subscribed (mid"):
                self.granted = [int(code) for code in line.split("): ", 1)[1].split(", ")]

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def _line(self):
        try:
            return self.lines.get(timeout=DEADLINE_S)
        except queue.Empty:
            raise Mismatch(f"mosquitto_sub said nothing for {DEADLINE_S} s") from None

    def receive(self, count):
        """The next messages as (topic, QoS, retain, payload)."""
        received = []
        while len(received) < count:
            line = self._line()
            if line.startswith(MARK):
                topic, qos, retain, payload = line[len(MARK) :].split("|", 3)
                received.append((topic, int(qos), int(retain), payload))
        return received

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.stop(signal.SIGTERM)

    def stop(self, number):
        """SIGTERM makes the tool send DISCONNECT, SIGKILL does not."""
        os.kill(self.process.pid, number)
        self.process.wait(timeout=DEADLINE_S)


def qos_0_and_1():
    for version in VERSIONS:
        for subscribed in (0, 1):
            topic = unique("qos")
            with Sub(version, [topic], "-q", str(subscribed)) as sub:
                expect(f"granted in {version}", sub.granted, [subscribed])
                for published in (0, 1):
                    pub(version, topic, f"m{published}", "-q", str(published))
                got = sub.receive(2)
            want = [(topic, min(published, subscribed), 0, f"m{published}") for published in (0, 1)]
            expect(f"{VERSIONS[version]} subscribed at QoS {subscribed}", got, want)


def qos_2_publish():
    """A QoS 2 publish gets its whole handshake and arrives once."""
    for version in VERSIONS:
        topic = unique("qos2")
        with Sub(version, [topic], "-q", "1") as sub:
            pub(version, topic, "exactly", "-q", "2")
            pub(version, topic, "end", "-q", "2")
            want = [(topic, 1, 0, "exactly"), (topic, 1, 0, "end")]
            expect(f"{VERSIONS[version]} QoS 2 publish", sub.receive(2), want)


def qos_2_subscription_is_granted_1():
    for version in VERSIONS:
        topic = unique("grant")
        with Sub(version, [topic], "-q", "2") as sub:
            expect(f"granted in {VERSIONS[version]}", sub.granted, [1])
            pub(version, topic, "m", "-q", "2")
            expect("delivered", sub.receive(1), [(topic, 1, 0, "m")])


def across_versions():
    """Each version's publisher reaches each version's subscriber."""
    for publisher in VERSIONS:
        for subscriber in VERSIONS:
            topic = unique("across")
            with Sub(subscriber, [topic], "-q", "1") as sub:
                pub(publisher, topic, "hello", "-q", "1")
                got = sub.receive(1)
            expect(f"{publisher} to {subscriber}", got, [(topic, 1, 0, "hello")])


def wildcards():
    root = unique("wild")
    published = ["a", "a/b", "a/b/c", "a//c", "b"]
    cases = {
        "+": ["a", "b"],
        "a/+": ["a/b"],
        "a/#": ["a", "a/b", "a/b/c", "a//c"],
        "a/+/c": ["a/b/c", "a//c"],
        "#": published,
    }
    for version in VERSIONS:
        for topic_filter, want in cases.items():
            with Sub(version, [f"{root}/{topic_filter}", f"{root}/end"]) as sub:
                for topic in published:
                    pub(version, f"{root}/{topic}", topic)
                pub(version, f"{root}/end", "end")
                # A filter that matches `end` as well still gets one copy of it.
                got = []
                while "end" not in got:
                    got += [message[3] for message in sub.receive(1)]
            expect(f"{version} {topic_filter}", got[:-1], want)


def empty_levels():
    root = unique("empty")
    for version in VERSIONS:
        for topic in (f"/{root}", f"{root}//x", f"{root}/"):
            with Sub(version, [topic]) as sub:
                pub(version, topic, "m")
                expect(f"{version} {topic!r}", sub.receive(1), [(topic, 0, 0, "m")])


def dots_are_kept_between_mqtt_clients():
    root = unique("dots")
    for version in VERSIONS:
        with Sub(version, [f"{root}.b/c"]) as dotted, Sub(version, [f"{root}/b/c"]) as slashed:
            pub(version, f"{root}.b/c", "dotted")
            pub(version, f"{root}/b/c", "slashed")
            expect(version, dotted.receive(1), [(f"{root}.b/c", 0, 0, "dotted")])
            expect(version, slashed.receive(1), [(f"{root}/b/c", 0, 0, "slashed")])
            pub(version, f"{root}.b/c", "again")
            expect(version, dotted.receive(1), [(f"{root}.b/c", 0, 0, "again")])


def dollar_topics_are_not_matched_by_wildcards():
    name = unique("dollar")
    for version in VERSIONS:
        with Sub(version, ["#"]) as sub, Sub(version, [f"$other/{name}"]) as literal:
            pub(version, f"$other/{name}", "hidden")
            expect(version, literal.receive(1), [(f"$other/{name}", 0, 0, "hidden")])
            pub(version, name, "seen")
            expect(version, sub.receive(1), [(name, 0, 0, "seen")])


def retained_set_replaced_cleared():
    for version in VERSIONS:
        topic = unique("retain")
        pub(version, topic, "old", "-r", "-q", "1")
        pub(version, topic, "new", "-r", "-q", "1")
        with Sub(version, [topic], "-q", "1") as sub:
            expect(f"{version} replayed", sub.receive(1), [(topic, 1, 1, "new")])
            pub(version, topic, "live", "-r", "-q", "1")
            expect(f"{version} live", sub.receive(1), [(topic, 1, 0, "live")])
        pub(version, topic, None, "-r", "-q", "1")
        with Sub(version, [topic], "-q", "1") as sub:
            pub(version, topic, "after", "-q", "1")
            expect(f"{version} cleared", sub.receive(1), [(topic, 1, 0, "after")])


def retained_by_wildcard():
    for version in VERSIONS:
        root = unique("rwild")
        for leaf in ("a", "b", "b/c"):
            pub(version, f"{root}/{leaf}", leaf, "-r", "-q", "1")
        with Sub(version, [f"{root}/+"], "-q", "1") as sub:
            got = sorted(sub.receive(2))
            expect(f"{version} +", got, [(f"{root}/a", 1, 1, "a"), (f"{root}/b", 1, 1, "b")])
        with Sub(version, [f"{root}/#"], "-q", "1") as sub:
            expect(f"{version} #", sorted(m[3] for m in sub.receive(3)), ["a", "b", "b/c"])
        for leaf in ("a", "b", "b/c"):
            pub(version, f"{root}/{leaf}", None, "-r", "-q", "1")


def will_on_a_lost_connection():
    for version in VERSIONS:
        topic = unique("will")
        will = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", "1"]
        with Sub(version, [topic], "-q", "1") as watcher:
            device = Sub(version, [unique("none")], *will)
            device.stop(signal.SIGKILL)
            expect(f"{version} will", watcher.receive(1), [(topic, 1, 0, "gone")])


def will_after_disconnect_only_when_asked():
    """The tool ends MQTT 5 with reason 0x04, Disconnect with Will Message; older ones cannot."""
    for version in VERSIONS:
        topic = unique("nowill")
        will = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", "1"]
        with Sub(version, [topic], "-q", "1") as watcher:
            device = Sub(version, [unique("none")], *will)
            device.stop(signal.SIGTERM)
            pub(version, topic, "end", "-q", "1")
            want = [(topic, 1, 0, "gone")] if version == "5" else []
            want.append((topic, 1, 0, "end"))
            expect(f"{version} will", watcher.receive(len(want)), want)


def large_payload():
    payload = "x" * 60_000
    for version in VERSIONS:
        topic = unique("large")
        with Sub(version, [topic], "-q", "1") as sub:
            pub(version, topic, payload, "-q", "1")
            expect(f"{version} 60,000 bytes", sub.receive(1), [(topic, 1, 0, payload)])


if __name__ == "__main__":
    run(
        [
            qos_0_and_1,
            qos_2_publish,
            qos_2_subscription_is_granted_1,
            across_versions,
            wildcards,
            empty_levels,
            dots_are_kept_between_mqtt_clients,
            dollar_topics_are_not_matched_by_wildcards,
            retained_set_replaced_cleared,
            retained_by_wildcard,
            will_on_a_lost_connection,
            will_after_disconnect_only_when_asked,
            large_payload,
        ]
    )
