"use strict";
// MQTT.js, the Node client of MQTT, against the broker, in all three versions.

const mqtt = require("mqtt");
const { expect, Inbox, mqttUrl, run, unique } = require("./checks.js");

const VERSIONS = [
  { protocolVersion: 3, protocolId: "MQIsdp" },
  { protocolVersion: 4 },
  { protocolVersion: 5 },
];

async function connected(options, body) {
  const client = await mqtt.connectAsync(mqttUrl, {
    clientId: unique("node"),
    reconnectPeriod: 0,
    ...options,
  });
  const inbox = new Inbox();
  client.on("message", (topic, payload, packet) => {
    inbox.push([topic, payload.toString(), packet.qos, packet.retain, packet.properties]);
  });
  await body(client, inbox);
  await client.endAsync();
}

const plain = (messages) => messages.map((message) => message.slice(0, 4));

async function qualitiesOfService() {
  for (const version of VERSIONS) {
    await connected(version, async (client, inbox) => {
      const topic = unique("qos");
      const granted = await client.subscribeAsync(topic, { qos: 2 });
      expect("granted", granted[0].qos, 1);
      for (const qos of [0, 1, 2]) await client.publishAsync(topic, String(qos), { qos });
      const want = [0, 1, 2].map((qos) => [topic, String(qos), Math.min(qos, 1), false]);
      expect(`version ${version.protocolVersion}`, plain(await inbox.take(3)), want);
    });
  }
}

async function wildcards() {
  for (const version of VERSIONS) {
    await connected(version, async (client, inbox) => {
      const root = unique("w");
      await client.subscribeAsync([`${root}/+/x`, `${root}/a/#`], { qos: 1 });
      for (const leaf of ["b/x", "b/y", "a/b/c"]) {
        await client.publishAsync(`${root}/${leaf}`, leaf, { qos: 1 });
      }
      expect("matched", (await inbox.take(2)).map((message) => message[1]), ["b/x", "a/b/c"]);
    });
  }
}

async function retained() {
  for (const version of VERSIONS) {
    const topic = unique("retain");
    await connected(version, async (client) => {
      await client.publishAsync(topic, "kept", { qos: 1, retain: true });
    });
    await connected(version, async (client, inbox) => {
      await client.subscribeAsync(topic, { qos: 1 });
      expect("replayed", plain(await inbox.take(1)), [[topic, "kept", 1, true]]);
      await client.publishAsync(topic, "", { qos: 1, retain: true });
    });
  }
}

async function will() {
  for (const version of VERSIONS) {
    await connected(version, async (watcher, inbox) => {
      const topic = unique("will");
      await watcher.subscribeAsync(topic, { qos: 1 });
      const lost = await mqtt.connectAsync(mqttUrl, {
        clientId: unique("lost"),
        reconnectPeriod: 0,
        ...version,
        will: { topic, payload: Buffer.from("gone"), qos: 1, retain: false },
      });
      lost.stream.destroy();
      expect("will", plain(await inbox.take(1)), [[topic, "gone", 1, false]]);
    });
  }
}

async function propertiesOfVersion5() {
  await connected({ protocolVersion: 5 }, async (client, inbox) => {
    const topic = unique("props");
    await client.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 9 } });
    const properties = {
      contentType: "text/plain",
      responseTopic: "reply/to",
      correlationData: Buffer.from([0, 255]),
      userProperties: { a: ["1", "2"], b: "3" },
    };
    await client.publishAsync(topic, "x", { qos: 1, properties });
    const [, , , , got] = await inbox.next();
    expect("content type", got.contentType, "text/plain");
    expect("response topic", got.responseTopic, "reply/to");
    expect("correlation data", [...got.correlationData], [0, 255]);
    expect("user properties", { ...got.userProperties }, properties.userProperties);
    expect("subscription identifier", got.subscriptionIdentifier, 9);
  });
}

async function topicAliasesBothWays() {
  const options = { protocolVersion: 5, autoAssignTopicAlias: true, properties: { topicAliasMaximum: 4 } };
  await connected(options, async (client, inbox) => {
    const topic = unique("alias");
    await client.subscribeAsync(topic, { qos: 1 });
    for (const body of ["1", "2", "3"]) await client.publishAsync(topic, body, { qos: 1 });
    const want = ["1", "2", "3"].map((body) => [topic, body, 1, false]);
    expect("delivered", plain(await inbox.take(3)), want);
  });
}

async function persistentSession() {
  const options = { protocolVersion: 4, clean: false, clientId: unique("kept") };
  const topic = unique("session");
  await connected(options, (client) => client.subscribeAsync(topic, { qos: 1 }));
  await connected({}, (client) => client.publishAsync(topic, "offline", { qos: 1 }));
  const client = mqtt.connect(mqttUrl, { ...options, reconnectPeriod: 0 });
  const [inbox, connack] = [new Inbox(), new Inbox()];
  client.on("connect", (packet) => connack.push(packet.sessionPresent));
  client.on("message", (name, payload) => inbox.push(payload.toString()));
  expect("session present", await connack.next(), true);
  expect("backlog", await inbox.next(), "offline");
  await client.endAsync();
  await connected({ ...options, clean: true }, async () => {});
}

run([
  qualitiesOfService,
  wildcards,
  retained,
  will,
  propertiesOfVersion5,
  topicAliasesBothWays,
  persistentSession,
]);
