"""Sessions as `leveret ctl list_queues` shows them: names, durability, expiry, backlog."""

import time

from checks import Mismatch, Mqtt, ctl, eventually, expect, properties, run, unique
from own import Broker
from vhosts import Client

COLUMNS = ("name", "durable", "auto_delete", "arguments", "messages", "consumers")
DEFAULT_TTL_MS = 86_400_000


def listed(client_id, qos):
    """The row of a subscription queue, or None; arguments as a dictionary."""
    name = f"mqtt-subscription-{client_id}qos{qos}"
    rows = [row for row in ctl("list_queues", *COLUMNS) if row["name"] == name]
    if not rows:
        return None
    if len(rows) > 1 or set(rows[0]) != set(COLUMNS):
        raise Mismatch(f"list_queues shows {rows}")
    # As rabbitmqctl prints them: [["x-expires", "long", 86400000], ...].
    arguments = {key: value for key, _, value in rows[0]["arguments"]}
    return {**rows[0], "name": name, "arguments": arguments}


def row(client_id, qos, **columns):
    """The row that a check expects."""
    return {"name": f"mqtt-subscription-{client_id}qos{qos}", **columns}


def session(clean, qos):
    """A connected 3.1.1 client with one subscription, and its topic."""
    topic = unique("session")
    client = Mqtt(unique("dev"), version="3.1.1", clean=clean).open()
    expect("session present", client.session_present, False)
    expect("granted", client.subscribe(topic, qos), qos)
    return client, topic


def publish(topic, qos, *payloads):
    """Publishes from another client."""
    with Mqtt(version="3.1.1") as publisher:
        for payload in payloads:
            publisher.publish(topic, payload, qos)


def forget(client_id):
    """Ends a persistent session the way clients do: a clean connect."""
    Mqtt(client_id, version="3.1.1", clean=True).open().close()


def clean_qos_0():
    client, _ = session(clean=True, qos=0)
    want = row(client.client_id, 0, durable=False, auto_delete=True, arguments={}, messages=0,
               consumers=1)
    eventually("listed", lambda: listed(client.client_id, 0), want)
    expect("no other queue", listed(client.client_id, 1), None)
    client.close()
    eventually("gone", lambda: listed(client.client_id, 0), None)


def clean_qos_1():
    client, _ = session(clean=True, qos=1)
    want = row(client.client_id, 1, durable=True, auto_delete=True, arguments={}, messages=0,
               consumers=1)
    eventually("listed", lambda: listed(client.client_id, 1), want)
    expect("no other queue", listed(client.client_id, 0), None)
    client.drop()
    eventually("gone", lambda: listed(client.client_id, 1), None)


def persistent_qos_1():
    client, topic = session(clean=False, qos=1)
    want = row(client.client_id, 1, durable=True, auto_delete=False,
               arguments={"x-expires": DEFAULT_TTL_MS}, messages=0, consumers=1)
    eventually("online", lambda: listed(client.client_id, 1), want)
    client.close()
    publish(topic, 1, b"1", b"2", b"3")
    eventually("offline", lambda: listed(client.client_id, 1),
               {**want, "messages": 3, "consumers": 0})
    again = Mqtt(client.client_id, version="3.1.1", clean=False).open()
    expect("session present", again.session_present, True)
    got = [(m.payload, m.qos) for m in again.receive_until(b"3")]
    expect("delivered in order", got, [(b"1", 1), (b"2", 1), (b"3", 1)])
    eventually("acknowledged", lambda: listed(client.client_id, 1), want)
    again.close()
    forget(client.client_id)
    eventually("forgotten", lambda: listed(client.client_id, 1), None)


def persistent_qos_0():
    """The queue stays, what is sent to it offline does not."""
    client, topic = session(clean=False, qos=0)
    want = row(client.client_id, 0, durable=True, auto_delete=False,
               arguments={"x-expires": DEFAULT_TTL_MS}, messages=0, consumers=1)
    eventually("online", lambda: listed(client.client_id, 0), want)
    client.close()
    eventually("offline", lambda: listed(client.client_id, 0), {**want, "consumers": 0})
    publish(topic, 0, b"dropped")
    again = Mqtt(client.client_id, version="3.1.1", clean=False).open()
    expect("session present", again.session_present, True)
    publish(topic, 0, b"live")
    expect("only what came online", [m.payload for m in again.receive_until(b"live")], [b"live"])
    again.close()
    forget(client.client_id)
    eventually("forgotten", lambda: listed(client.client_id, 0), None)


def both_qualities_are_two_queues():
    client, _ = session(clean=False, qos=1)
    client.subscribe(unique("other"), 0)
    eventually("qos0", lambda: listed(client.client_id, 0) is not None, True)
    eventually("qos1", lambda: listed(client.client_id, 1) is not None, True)
    client.close()
    forget(client.client_id)
    eventually("qos0 forgotten", lambda: listed(client.client_id, 0), None)
    eventually("qos1 forgotten", lambda: listed(client.client_id, 1), None)


def publishers_have_no_queue():
    with Mqtt(unique("pub"), version="3.1.1", clean=False) as client:
        client.publish(unique("topic"), b"", 1)
        expect("qos0", listed(client.client_id, 0), None)
        expect("qos1", listed(client.client_id, 1), None)


def takeover_keeps_the_session():
    first, topic = session(clean=False, qos=1)
    second = Mqtt(first.client_id, version="3.1.1", clean=False).open()
    first.closed.get(timeout=15)
    expect("session present", second.session_present, True)
    publish(topic, 1, b"one")
    expect("the new connection has it", second.receive().payload, b"one")
    second.close()
    forget(first.client_id)


def session_expiry_of_2_seconds():
    """Counting starts at the disconnect: connected for longer, the session is still there."""
    topic = unique("expiry")
    asked = properties("CONNECT", SessionExpiryInterval=2)
    client = Mqtt(unique("dev"), clean=True, connect=asked).open()
    client.subscribe(topic, 1)
    want = row(client.client_id, 1, durable=True, auto_delete=False,
               arguments={"x-expires": 2000}, messages=0, consumers=1)
    eventually("online", lambda: listed(client.client_id, 1), want)
    time.sleep(3)
    client.close()
    again = Mqtt(client.client_id, clean=False, connect=asked).open()
    expect("still there after the reconnect", again.session_present, True)
    again.close()
    eventually("gone", lambda: listed(client.client_id, 1), None)
    last = Mqtt(client.client_id, clean=False).open()
    expect("session present", last.session_present, False)
    last.close()


def disconnect_changes_the_expiry():
    client = Mqtt(unique("dev"), connect=properties("CONNECT", SessionExpiryInterval=3600)).open()
    client.subscribe(unique("expiry"), 1)
    client.close(properties("DISCONNECT", SessionExpiryInterval=0))
    eventually("gone", lambda: listed(client.client_id, 1), None)


def tables_before_and_after_disconnect():
    """The four kinds of session side by side, as `leveret ctl list_queues` prints them."""
    columns = ("name", "arguments", "durable", "auto_delete", "messages", "consumers")
    kinds = {"clean QoS 0": (True, [0]), "clean QoS 1": (True, [1]),
             "persistent QoS 1": (False, [1]), "mixed": (False, [0, 1])}
    with Broker("mqtt.max_session_expiry_interval_seconds=2") as broker:
        def show(title):
            print(f"\n{title}\n{broker.ctl('list_queues', *columns, '--quiet')}", flush=True)

        for kind, (clean, qualities) in kinds.items():
            client = Client(broker.mqtt_ports[0], unique("dev"), version="3.1.1", clean=clean)
            client.open()
            for qos in qualities:
                client.subscribe(f"{unique('topic')}/{qos}", qos)
            names = [f"mqtt-subscription-{client.client_id}qos{qos}" for qos in qualities]
            show(f"{kind}, connected:")
            rows = [(row["name"], row["durable"], row["auto_delete"], row["consumers"],
                     row["arguments"]) for row in broker.rows("list_queues", *columns)]
            expires = [] if clean else [["x-expires", "long", 2000]]
            want = [(name, not clean or name.endswith("qos1"), clean, 1, expires)
                    for name in names]
            expect(kind, sorted(rows), sorted(want))
            client.close()
            left = [] if clean else sorted(names)
            eventually(f"{kind}, disconnected", lambda: sorted(
                row["name"] for row in broker.rows("list_queues", "name", "consumers")
                if row["consumers"] == 0), left)
            show(f"{kind}, disconnected:")
            eventually(f"{kind}, gone", lambda: broker.rows("list_queues", "name"), [])
        show("2 s later:")


if __name__ == "__main__":
    run(
        [
            clean_qos_0,
            clean_qos_1,
            persistent_qos_1,
            persistent_qos_0,
            both_qualities_are_two_queues,
            publishers_have_no_queue,
            takeover_keeps_the_session,
            session_expiry_of_2_seconds,
            disconnect_changes_the_expiry,
            tables_before_and_after_disconnect,
        ]
    )
