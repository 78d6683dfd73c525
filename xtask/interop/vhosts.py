"""Which vhost and which user a connection gets: port map, prefix, anonymous, loopback users."""

import contextlib
import ctypes
import os
import random
import subprocess

import pika

from checks import Mismatch, Mqtt, expect, expect_in, run, unique
from own import Broker, connack_code

LEVEL_3_1_1, LEVEL_5 = 4, 5


class Client(Mqtt):
    """A paho client of a broker that is not the shared one."""

    def __init__(self, port, client_id=None, user="guest", password="guest", **arguments):
        super().__init__(client_id, **arguments)
        self.port = port
        self.client.username_pw_set(user, password)

    def open(self):
        connect = self.client.connect
        self.client.connect = lambda host, _, **rest: connect(host, self.port, **rest)
        return super().open()


def two_ports_are_two_vhosts():
    with Broker(listeners=2) as broker:
        ports = dict(zip(("factory", "office"), broker.mqtt_ports, strict=True))
        for vhost in ports:
            broker.ctl("add_vhost", vhost)
            broker.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")
        mapping = ", ".join(f'"{port}": "{vhost}"' for vhost, port in ports.items())
        broker.ctl("set_global_parameter", "mqtt_port_to_vhost_mapping", f"{{{mapping}}}")
        topic, same_id = unique("topic"), unique("same")
        with contextlib.ExitStack() as stack:
            clients = {vhost: stack.enter_context(Client(port, same_id))
                       for vhost, port in ports.items()}
            for client in clients.values():
                client.subscribe(topic, 1)
            # Whatever crosses over comes before what the other vhost is sent last.
            for vhost, client in clients.items():
                client.publish(topic, f"to {vhost}".encode(), 1)
            for vhost, client in clients.items():
                expect(vhost, client.receive().payload, f"to {vhost}".encode())
                expect(f"nothing else in {vhost}", client.messages.empty(), True)
                expect(f"queues of {vhost}",
                       broker.rows("list_queues", "-p", vhost, "name", "consumers"),
                       [{"name": f"mqtt-subscription-{same_id}qos1", "consumers": 1}])
            expect("queues of /", broker.rows("list_queues", "name"), [])
            rows = broker.rows("list_mqtt_connections", "client_id", "vhost", "port")
            expect("connections", sorted((row["vhost"], row["port"]) for row in rows),
                   sorted(ports.items()))
        for vhost in ports:
            broker.logged("accepted MQTT connection", f'vhost="{vhost}"',
                          "rule=mqtt_port_to_vhost_mapping")
        prefixed = unique("prefixed")
        with Client(ports["factory"], prefixed, user="office:guest"):
            broker.logged(prefixed, 'vhost="office"', "rule=the user name's prefix")
        broker.ctl("clear_global_parameter", "mqtt_port_to_vhost_mapping")
        plain = unique("plain")
        with Client(ports["factory"], plain):
            broker.logged(plain, 'vhost="/"', "rule=mqtt.vhost")


def a_vhost_without_permission_is_refused():
    with Broker() as broker:
        broker.ctl("add_vhost", "closed")
        address = (broker.host, broker.mqtt_ports[0])
        login = ("closed:guest", "guest")
        expect("3.1.1", connack_code(address, LEVEL_3_1_1, unique("c"), login), 5)
        expect("5.0", connack_code(address, LEVEL_5, unique("c"), login), 0x87)
        broker.logged("MQTT login refused", 'vhost="closed"', "rule=the user name's prefix",
                      "access to vhost 'closed' refused for user 'guest'")


def anonymous_clients_are_the_user_that_is_set():
    with Broker("anonymous_login_user=device", "anonymous_login_pass=secret") as broker:
        broker.user("device", "secret", "/")
        with Client(broker.mqtt_ports[0], unique("anon"), user=None, password=None) as client:
            expect("subscribes", client.subscribe(unique("topic"), 1), 1)
            rows = broker.rows("list_mqtt_connections", "client_id", "user")
            expect("user", rows, [{"client_id": client.client_id, "user": "device"}])
            broker.logged("accepted MQTT connection", client.client_id, 'user="device"')
        broker.ctl("set_permissions", "device", "^$", "^$", "^$")
        with Client(broker.mqtt_ports[0], user=None, password=None) as client:
            expect("may do what the user may", client.subscribe(unique("topic"), 1), 0x87)


def anonymous_clients_can_be_refused():
    with Broker("mqtt.allow_anonymous=false") as broker:
        address = (broker.host, broker.mqtt_ports[0])
        expect("3.1.1", connack_code(address, LEVEL_3_1_1, unique("c")), 4)
        expect("5.0", connack_code(address, LEVEL_5, unique("c")), 0x86)
        broker.logged("MQTT login refused", "no credentials, and mqtt.allow_anonymous is off")
        expect("3.1.1 as guest",
               connack_code(address, LEVEL_3_1_1, unique("c"), ("guest", "guest")), 0)
        expect("5.0 as guest", connack_code(address, LEVEL_5, unique("c"), ("guest", "guest")), 0)


def guest_is_for_loopback_only():
    """From another host, here a network namespace, guest is refused and others are not."""
    with neighbour() as (ours, there), Broker(host=ours) as broker:
        broker.user("device", "secret", "/")
        address = (ours, broker.mqtt_ports[0])
        guest, device = ("guest", "guest"), ("device", "secret")
        with inside(there):
            codes = {who: [connack_code(address, level, unique("c"), login)
                           for level in (LEVEL_3_1_1, LEVEL_5)]
                     for who, login in (("guest", guest), ("device", device), ("nobody", None))}
            refusal = amqp_refusal(broker, *guest)
            broker.amqp(*device).close()
        expect("guest over MQTT", codes["guest"], [5, 0x87])
        expect("anonymous, who is guest", codes["nobody"], [5, 0x87])
        expect("another user over MQTT", codes["device"], [0, 0])
        expect_in("guest over AMQP", "ACCESS_REFUSED", refusal)
        expect_in("guest over AMQP", "403", refusal)
        broker.logged("MQTT login refused", "can only connect via localhost (loopback_users)")


def amqp_refusal(broker, user, password):
    """What pika says of a login that must be refused."""
    try:
        broker.amqp(user, password).close()
    except pika.exceptions.ProbableAuthenticationError as refused:
        return str(refused)
    raise Mismatch(f"{user} was accepted over AMQP")


# --- another host -------------------------------------------------------------------------------

CLONE_NEWNET = 0x4000_0000


@contextlib.contextmanager
def neighbour():
    """A network namespace at the other end of a cable: (our address, its name)."""
    tag = f"{os.getpid() % 10_000}{random.randrange(100):02}"
    name, near, far = f"leveret-{tag}", f"lvr{tag}a", f"lvr{tag}b"
    subnet = f"10.199.{random.randrange(1, 255)}"
    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("addr", "add", f"{subnet}.1/24", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "addr", "add", f"{subnet}.2/24", "dev", far)
        for link in (far, "lo"):
            ip("-n", name, "link", "set", link, "up")
        yield f"{subnet}.1", name
    finally:
        # The cable goes with it.
        ip("netns", "del", name)


@contextlib.contextmanager
def inside(name):
    """Sockets that this thread makes are of that network namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        enter(there)
        try:
            yield
        finally:
            enter(home)
    finally:
        os.close(there)
        os.close(home)


def enter(namespace):
    """setns(2) for this thread."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise Mismatch(f"setns: {os.strerror(ctypes.get_errno())}; run as root")


def ip(*arguments):
    """ip(8), which must succeed: it needs root."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Mismatch(f"ip {' '.join(arguments)} is not permitted or fails; run as root: "
                       f"{done.stderr.strip()}")


if __name__ == "__main__":
    run(
        [
            two_ports_are_two_vhosts,
            a_vhost_without_permission_is_refused,
            anonymous_clients_are_the_user_that_is_set,
            anonymous_clients_can_be_refused,
            guest_is_for_loopback_only,
        ]
    )
