"""A broker that a check starts for itself: its own options, ports, data directory and log."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time

import pika

from checks import DEADLINE_S, HOST, STARTED, Mismatch, eventually, expect

BINARY = os.environ["INTEROP_BINARY"]


def free_ports(count, host=HOST):
    """Ports that were free a moment ago; all are held while they are chosen."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]


class Broker:
    """A running broker; `mqtt_ports` has as many MQTT listeners as were asked for."""

    def __init__(self, *settings, listeners=1, host=HOST):
        self.settings = settings
        self.host = host
        self.amqp_port, *self.mqtt_ports = free_ports(1 + listeners, host)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="leveret-interop-"))
        self.data = self.directory / "data"
        self.process = None

    def __enter__(self):
        # The first takes the place of the listener that there is by default.
        listeners = [f"mqtt.listeners.tcp.{number or 'default'}={self.host}:{port}"
                     for number, port in enumerate(self.mqtt_ports)]
        settings = [*listeners, f"listeners.tcp.default={self.host}:{self.amqp_port}",
                    *self.settings]
        command = [BINARY, "--data-dir", self.data]
        for setting in settings:
            command += ["--set", setting]
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        STARTED.append(self.process)
        end = time.monotonic() + DEADLINE_S
        while "  ready " not in self.log():
            if self.process.poll() is not None or time.monotonic() > end:
                log = self.log()
                shutil.rmtree(self.directory)
                raise Mismatch(f"the broker does not start:\n{log}")
            time.sleep(0.05)
        return self

    def __exit__(self, *unused):
        self.process.terminate()
        code = self.process.wait(timeout=DEADLINE_S)
        log = self.log()
        shutil.rmtree(self.directory)
        if code != 0:
            raise Mismatch(f"the broker ended with {code}:\n{log}")

    def log(self):
        """All that the broker has said."""
        return (self.directory / "log").read_text(errors="replace")

    def logged(self, *parts):
        """Waits for one line with all these parts."""
        def found():
            return any(all(part in line for part in parts) for line in self.log().splitlines())

        try:
            eventually(f"a line with {parts}", found, True)
        except Mismatch as missing:
            raise Mismatch(f"{missing}\n{self.log()}") from None

    def tool(self, name, *arguments):
        """Runs one of RabbitMQ's tools, by a link of that name to the binary: (code, out, err)."""
        link = self.directory / name
        if not link.exists():
            link.symlink_to(os.path.abspath(BINARY))
        done = subprocess.run([link, *arguments], capture_output=True, text=True, timeout=60,
                              check=False, env={**os.environ, "LEVERET_DATA_DIR": str(self.data)})
        return done.returncode, done.stdout, done.stderr

    def ctl(self, *arguments):
        """Runs `leveret ctl`, which must succeed; gives what it prints."""
        command = [BINARY, "ctl", "--data-dir", self.data, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise Mismatch(f"{command} exited with {done.returncode}: {done.stderr}")
        return done.stdout

    def rows(self, *arguments):
        """What `leveret ctl` lists."""
        return json.loads(self.ctl(*arguments, "--formatter", "json"))

    def user(self, name, password, *vhosts):
        """Adds a user who may do everything in these vhosts."""
        self.ctl("add_user", name, password)
        for vhost in vhosts:
            self.ctl("set_permissions", "-p", vhost, name, ".*", ".*", ".*")

    def amqp(self, user="guest", password="guest", vhost="/"):
        """An open pika connection."""
        return pika.BlockingConnection(pika.ConnectionParameters(
            self.host, self.amqp_port, vhost, pika.PlainCredentials(user, password),
            blocked_connection_timeout=DEADLINE_S))


# --- MQTT by hand -------------------------------------------------------------------------------


def text(value):
    """A UTF-8 string as MQTT encodes it."""
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def connack_code(address, level, client_id, credentials=None):
    """The return or reason code of the CONNACK that a CONNECT of this protocol level gets."""
    flags = 0x02 | (0xC0 if credentials else 0)
    body = text("MQTT") + bytes([level, flags, 0, 60]) + (b"\0" if level == 5 else b"")
    body += text(client_id) + b"".join(text(part) for part in credentials or ())
    with socket.create_connection(address, DEADLINE_S) as stream:
        stream.sendall(bytes([0x10, len(body)]) + body)
        expect("the first byte of CONNACK", received(stream, 1)[0], 0x20)
        length, shift = 0, 0
        while True:
            [byte] = received(stream, 1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return received(stream, length)[1]


def received(stream, count):
    """Exactly so many bytes."""
    got = b""
    while len(got) < count:
        part = stream.recv(count - len(got))
        if not part:
            raise Mismatch(f"the stream ended after {got!r}, expected {count} bytes")
        got += part
    return got


def is_closed_by_peer(stream):
    """Whether the peer closes a stream, before the deadline."""
    stream.settimeout(DEADLINE_S)
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        try:
            if not stream.recv(4096):
                return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
    return False
