"use strict";
// amqplib, the Node client of AMQP 0-9-1, against the broker.

const amqplib = require("amqplib");
const { amqpUrl, expect, Inbox, run, unique } = require("./checks.js");

async function connected(body) {
  const connection = await amqplib.connect(amqpUrl);
  connection.on("error", () => {});
  await body(connection);
  await connection.close();
}

function consume(channel, queue, options) {
  const inbox = new Inbox();
  return channel.consume(queue, (message) => inbox.push(message), options).then(() => inbox);
}

const texts = (messages) => messages.map((message) => message.content.toString());

async function sendAndReceive() {
  await connected(async (connection) => {
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    channel.sendToQueue(queue, Buffer.from("hello"), { persistent: true, contentType: "text/plain" });
    const inbox = await consume(channel, queue, { noAck: true });
    const message = await inbox.next();
    expect("body", message.content.toString(), "hello");
    expect("type", message.properties.contentType, "text/plain");
    expect("mode", message.properties.deliveryMode, 2);
  });
}

async function publisherConfirms() {
  await connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const queue = unique("confirm");
    await channel.assertQueue(queue, { durable: true });
    for (let number = 0; number < 200; number += 1) {
      channel.sendToQueue(queue, Buffer.from(String(number)), { persistent: true });
    }
    await channel.waitForConfirms();
    expect("count", (await channel.checkQueue(queue)).messageCount, 200);
    const inbox = await consume(channel, queue, { noAck: true });
    const want = Array.from({ length: 200 }, (_, number) => String(number));
    expect("order", texts(await inbox.take(200)), want);
    await channel.deleteQueue(queue);
  });
}

async function prefetchHoldsBack() {
  await connected(async (connection) => {
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    await channel.prefetch(2);
    for (const body of ["1", "2", "3"]) channel.sendToQueue(queue, Buffer.from(body));
    const inbox = await consume(channel, queue);
    const held = await inbox.take(2);
    expect("ready", (await channel.checkQueue(queue)).messageCount, 1);
    channel.ack(held[1], true);
    expect("third", texts(await inbox.take(1)), ["3"]);
  });
}

async function headersTravel() {
  await connected(async (connection) => {
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    const headers = { text: "é", int: -5, yes: true, nothing: null, list: ["a", 1], table: { x: "y" } };
    channel.sendToQueue(queue, Buffer.alloc(0), { headers, correlationId: "c", replyTo: "r" });
    const message = await channel.get(queue, { noAck: true });
    expect("headers", { ...message.properties.headers }, headers);
    expect("correlation id", message.properties.correlationId, "c");
    expect("reply to", message.properties.replyTo, "r");
  });
}

async function topicsAndExchangeBindings() {
  await connected(async (connection) => {
    const channel = await connection.createChannel();
    const [source, target] = [unique("source"), unique("target")];
    await channel.assertExchange(source, "topic", { autoDelete: false });
    await channel.assertExchange(target, "fanout");
    await channel.bindExchange(target, source, "a.#");
    const { queue } = await channel.assertQueue("", { exclusive: true });
    await channel.bindQueue(queue, target, "");
    const inbox = await consume(channel, queue, { noAck: true });
    for (const key of ["a", "b", "a.b"]) channel.publish(source, key, Buffer.from(key));
    expect("routed", texts(await inbox.take(2)), ["a", "a.b"]);
    await channel.deleteExchange(source);
    await channel.deleteExchange(target);
  });
}

async function remoteProcedureCall() {
  await connected(async (connection) => {
    const channel = await connection.createChannel();
    const { queue } = await channel.assertQueue("", { exclusive: true });
    await channel.consume(
      queue,
      (asked) => {
        const { replyTo, correlationId } = asked.properties;
        channel.sendToQueue(replyTo, Buffer.from(`re: ${asked.content}`), { correlationId });
      },
      { noAck: true },
    );
    const { queue: replies } = await channel.assertQueue("", { exclusive: true });
    const inbox = await consume(channel, replies, { noAck: true });
    channel.sendToQueue(queue, Buffer.from("ping"), {
      replyTo: replies,
      correlationId: "7",
    });
    const answer = await inbox.next();
    expect("answer", [answer.content.toString(), answer.properties.correlationId], ["re: ping", "7"]);
  });
}

async function mandatoryReturn() {
  await connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const returned = new Inbox();
    channel.on("return", (message) => returned.push(message));
    const key = unique("nowhere");
    channel.publish("", key, Buffer.from("lost"), { mandatory: true });
    await channel.waitForConfirms();
    const { fields, content } = await returned.next();
    expect("return", [fields.replyCode, fields.replyText, content.toString()], [312, "NO_ROUTE", "lost"]);
  });
}

async function missingQueueClosesTheChannel() {
  await connected(async (connection) => {
    const channel = await connection.createChannel();
    const errors = new Inbox();
    channel.on("error", (error) => errors.push(error));
    const queue = unique("none");
    await channel.checkQueue(queue).catch(() => {});
    const error = await errors.next();
    expect("code", error.code, 404);
    expect("text", error.message.includes(`NOT_FOUND - no queue '${queue}' in vhost '/'`), true);
    const again = await connection.createChannel();
    await again.assertQueue("", { exclusive: true });
  });
}

run([
  sendAndReceive,
  publisherConfirms,
  prefetchHoldsBack,
  headersTravel,
  topicsAndExchangeBindings,
  remoteProcedureCall,
  mandatoryReturn,
  missingQueueClosesTheChannel,
]);
