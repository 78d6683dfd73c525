"use strict";
// amqplib, the Node client, with what applications build on: any RabbitMQ passes it.

const amqplib = require("amqplib");
const { once } = require("node:events");
const { setTimeout: pause } = require("node:timers/promises");
const { amqpUrl, expect, Inbox, run, unique } = require("./checks.js");

async function connected(body) {
  const connection = await amqplib.connect(amqpUrl);
  let closed;
  connection.on("error", (error) => { closed = error; });
  try {
    await body(connection, await connection.createChannel());
  } catch (error) {
    // What the broker said when it closed the connection tells more than what followed.
    throw closed ?? error;
  } finally {
    await connection.close().catch(() => {});
  }
}

/** Messages of a queue, one by one. */
async function consume(channel, queue, options) {
  const inbox = new Inbox();
  await channel.consume(queue, (message) => inbox.push(message), options);
  return inbox;
}

const exclusive = async (channel, options) =>
  (await channel.assertQueue("", { exclusive: true, ...options })).queue;
const text = (message) => message.content.toString();
const texts = (messages) => messages.map(text);

/** The code with which the broker closes a channel of its own because of an action. */
async function closingCode(connection, action) {
  const channel = await connection.createChannel();
  const closed = once(channel, "error").catch((error) => [error]);
  await Promise.resolve(action(channel)).catch(() => {});
  // Answered only if the channel is still open.
  const open = channel.checkExchange("amq.direct").then(() => [{ code: "open" }]);
  return (await Promise.race([closed, open.catch(() => closed)]))[0].code;
}

async function deadLettersOfRejectionExpiryAndLength() {
  await connected(async (_, channel) => {
    const graves = await exclusive(channel);
    const bury = { deadLetterExchange: "", deadLetterRoutingKey: graves };
    const rejecting = await exclusive(channel, bury);
    const expiring = await exclusive(channel, { ...bury, messageTtl: 50 });
    const short = await exclusive(channel, { ...bury, maxLength: 1 });
    const inbox = await consume(channel, graves, { noAck: true });
    channel.sendToQueue(rejecting, Buffer.from("bad"));
    channel.nack(await (await consume(channel, rejecting)).next(), false, false);
    const death = (message) => {
      const { reason, queue, count } = message.properties.headers["x-death"][0];
      return [text(message), reason, queue, count];
    };
    expect("rejected", death(await inbox.next()), ["bad", "rejected", rejecting, 1]);
    channel.sendToQueue(expiring, Buffer.from("late"));
    expect("expired", death(await inbox.next()), ["late", "expired", expiring, 1]);
    channel.sendToQueue(short, Buffer.from("old"));
    channel.sendToQueue(short, Buffer.from("new"));
    expect("maxlen", death(await inbox.next()), ["old", "maxlen", short, 1]);
  });
}

async function expirationOfAMessageIsToldToItsGrave() {
  await connected(async (_, channel) => {
    const graves = await exclusive(channel);
    const queue = await exclusive(channel, {
      deadLetterExchange: "", deadLetterRoutingKey: graves });
    channel.sendToQueue(queue, Buffer.from("x"), { expiration: "40" });
    const message = await (await consume(channel, graves, { noAck: true })).next();
    expect("expiration is gone", message.properties.expiration, undefined);
    expect("and told", message.properties.headers["x-death"][0]["original-expiration"], "40");
  });
}

async function prioritiesOrderMessages() {
  await connected(async (_, channel) => {
    const queue = await exclusive(channel, { maxPriority: 10 });
    for (const priority of [2, 10, 0, 7]) {
      channel.sendToQueue(queue, Buffer.from(String(priority)), { priority });
    }
    await channel.checkQueue(queue);
    const inbox = await consume(channel, queue, { noAck: true });
    expect("order", texts(await inbox.take(4)), ["10", "7", "2", "0"]);
  });
}

async function directReplyTo() {
  await connected(async (_, server) => {
    await connected(async (__, client) => {
      const queue = await exclusive(server);
      await server.consume(queue, (request) => server.sendToQueue(
        request.properties.replyTo, Buffer.from(`re: ${text(request)}`),
        { correlationId: request.properties.correlationId }), { noAck: true });
      const answers = await consume(client, "amq.rabbitmq.reply-to", { noAck: true });
      for (const id of ["1", "2"]) {
        client.sendToQueue(queue, Buffer.from(id), {
          replyTo: "amq.rabbitmq.reply-to", correlationId: id });
      }
      const got = await answers.take(2);
      expect("answers", texts(got), ["re: 1", "re: 2"]);
      expect("ids", got.map((message) => message.properties.correlationId), ["1", "2"]);
    });
  });
}

async function exchangesOfAllKinds() {
  await connected(async (_, channel) => {
    const side = unique("side");
    const entry = unique("entry");
    const inner = unique("inner");
    await channel.assertExchange(side, "fanout", { autoDelete: true });
    await channel.assertExchange(inner, "headers", { internal: true });
    await channel.assertExchange(entry, "topic", { alternateExchange: side });
    const aside = await exclusive(channel);
    const matched = await exclusive(channel);
    await channel.bindQueue(aside, side, "");
    await channel.bindExchange(inner, entry, "log.#");
    await channel.bindQueue(matched, inner, "", { "x-match": "any", level: "error", code: 7 });
    channel.publish(entry, "log.disk.full", Buffer.from("yes"), { headers: { level: "error" } });
    channel.publish(entry, "log.net", Buffer.from("also"), { headers: { code: 7 } });
    channel.publish(entry, "log.net", Buffer.from("no"), { headers: { level: "info" } });
    channel.publish(entry, "other", Buffer.from("aside"));
    const inbox = await consume(channel, matched, { noAck: true });
    expect("matched", texts(await inbox.take(2)), ["yes", "also"]);
    const rest = await consume(channel, aside, { noAck: true });
    // What reached an exchange that dropped it was routed: only the last one was not.
    expect("alternate", texts(await rest.take(1)), ["aside"]);
    await channel.unbindExchange(inner, entry, "log.#");
    channel.publish(entry, "log.disk", Buffer.from("unbound"), { headers: { level: "error" } });
    expect("after the unbinding", text(await rest.next()), "unbound");
    await channel.deleteExchange(entry);
    await channel.deleteExchange(inner);
  });
}

async function copiesByHeader() {
  await connected(async (_, channel) => {
    const queues = [await exclusive(channel), await exclusive(channel), await exclusive(channel)];
    channel.sendToQueue(queues[0], Buffer.from("x"), { CC: [queues[1]], BCC: [queues[2]] });
    for (const queue of queues) {
      const message = await (await consume(channel, queue, { noAck: true })).next();
      expect("headers", message.properties.headers, { CC: [queues[1]] });
    }
  });
}

async function returnsComeBeforeConfirms() {
  await connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const seen = new Inbox();
    channel.on("return", (message) => seen.push(`return ${message.fields.replyCode}`));
    channel.publish("", unique("nowhere"), Buffer.from("x"), { mandatory: true },
      (error) => seen.push(`confirm ${error}`));
    expect("order", await seen.take(2), ["return 312", "confirm null"]);
  });
}

async function fullQueueNacksAPublish() {
  await connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const queue = await exclusive(channel, {
      maxLength: 1, arguments: { "x-overflow": "reject-publish" } });
    const send = (body) => new Promise((resolve) => {
      channel.sendToQueue(queue, Buffer.from(body), {}, (error) => resolve(error === null));
    });
    expect("confirms", [await send("fits"), await send("not")], [true, false]);
  });
}

async function redeliveryAndRecover() {
  await connected(async (_, channel) => {
    const queue = await exclusive(channel);
    for (const body of ["1", "2", "3"]) channel.sendToQueue(queue, Buffer.from(body));
    const inbox = await consume(channel, queue);
    const held = await inbox.take(3);
    channel.ack(held[1]);
    channel.nackAll(true);
    const again = await inbox.take(2);
    expect("again", texts(again), ["1", "3"]);
    expect("flags", again.map((message) => message.fields.redelivered), [true, true]);
    await channel.recover();
    expect("recovered", texts(await inbox.take(2)), ["1", "3"]);
  });
}

async function consumersPrioritiesAndCancellation() {
  await connected(async (connection, channel) => {
    const queue = unique("prefer");
    await channel.assertQueue(queue);
    const low = await consume(channel, queue, { noAck: true });
    const high = await consume(channel, queue, { noAck: true, priority: 5 });
    for (const body of ["1", "2"]) channel.sendToQueue(queue, Buffer.from(body));
    expect("the preferred one has all", texts(await high.take(2)), ["1", "2"]);
    const other = await connection.createChannel();
    await other.deleteQueue(queue);
    expect("both are told", [await high.next(), await low.next()], [null, null]);
  });
}

async function singleActiveConsumer() {
  await connected(async (connection, channel) => {
    const queue = await exclusive(channel, { arguments: { "x-single-active-consumer": true } });
    const first = await connection.createChannel();
    const active = await consume(first, queue, { noAck: true });
    const waiting = await consume(channel, queue, { noAck: true });
    for (const body of ["1", "2"]) channel.sendToQueue(queue, Buffer.from(body));
    expect("active", texts(await active.take(2)), ["1", "2"]);
    await first.close();
    channel.sendToQueue(queue, Buffer.from("3"));
    expect("next in line", texts(await waiting.take(1)), ["3"]);
  });
}

async function quorumQueueLimitsDeliveries() {
  await connected(async (connection) => {
    const channel = await connection.createConfirmChannel();
    const graves = await exclusive(channel);
    const queue = unique("quorum");
    await channel.assertQueue(queue, { deadLetterExchange: "", deadLetterRoutingKey: graves,
      arguments: { "x-queue-type": "quorum", "x-delivery-limit": 1 } });
    channel.sendToQueue(queue, Buffer.from("poison"));
    await channel.waitForConfirms();
    const inbox = await consume(channel, queue);
    channel.reject(await inbox.next(), true);
    const second = await inbox.next();
    expect("count", second.properties.headers["x-delivery-count"], 1);
    channel.reject(second, true);
    const buried = await (await consume(channel, graves, { noAck: true })).next();
    expect("reason", buried.properties.headers["x-death"][0].reason, "delivery_limit");
    await channel.deleteQueue(queue);
  });
}

async function streamIsReadAgain() {
  await connected(async (connection) => {
    const writer = await connection.createConfirmChannel();
    const queue = unique("stream");
    await writer.assertQueue(queue, { arguments: { "x-queue-type": "stream" } });
    for (let number = 0; number < 20; number += 1) {
      writer.sendToQueue(queue, Buffer.from(String(number)));
    }
    await writer.waitForConfirms();
    for (const [offset, first] of [["first", 0], [12, 12]]) {
      const reader = await connection.createChannel();
      await reader.prefetch(5);
      const inbox = await consume(reader, queue, { arguments: { "x-stream-offset": offset } });
      for (let number = first; number < 20; number += 1) {
        const message = await inbox.next();
        expect("body", text(message), String(number));
        expect("offset", message.properties.headers["x-stream-offset"], number);
        reader.ack(message);
      }
      await reader.close();
    }
    await writer.deleteQueue(queue);
  });
}

async function prefetchOfConsumersAndChannels() {
  await connected(async (connection, channel) => {
    const queue = await exclusive(channel);
    for (let number = 0; number < 10; number += 1) {
      channel.sendToQueue(queue, Buffer.from(String(number)));
    }
    const count = async (limit, whole, consumers) => {
      const reader = await connection.createChannel();
      await reader.prefetch(limit, whole);
      let got = 0;
      for (let each = 0; each < consumers; each += 1) {
        await reader.consume(queue, () => { got += 1; });
      }
      await pause(300);
      await reader.close();
      return got;
    };
    expect("each of two consumers", await count(3, false, 2), 6);
    expect("two consumers of a channel", await count(3, true, 2), 3);
  });
}

async function errorsCloseTheChannel() {
  await connected(async (connection, channel) => {
    const queue = await exclusive(channel);
    const named = unique("named");
    await channel.assertQueue(named, { exclusive: true });
    const cases = [
      [404, (own) => own.checkQueue(unique("none"))],
      [404, (own) => own.checkExchange(unique("none"))],
      [404, (own) => own.bindQueue(queue, unique("none"), "")],
      [403, (own) => own.assertQueue(queue, { exclusive: true })],
      [406, (own) => own.assertQueue(named, { exclusive: true, autoDelete: true })],
      [406, (own) => own.assertExchange("amq.topic", "fanout")],
      [406, (own) => own.ack({ fields: { deliveryTag: 9 } })],
      [403, (own) => own.assertExchange("amq.mine", "fanout")],
      [403, (own) => own.deleteExchange("amq.topic")],
      [406, (own) => own.assertQueue("", { arguments: { "x-max-priority": 300 } })],
    ];
    for (const [code, action] of cases) {
      expect(String(action), await closingCode(connection, action), code);
    }
  });
}

async function largeMessagesAndManyHeaders() {
  await connected(async (_, channel) => {
    const queue = await exclusive(channel);
    const body = Buffer.alloc(3 * 1024 * 1024, "ab");
    const headers = Object.fromEntries(
      Array.from({ length: 200 }, (__, number) => [`header-${number}`, `value ${number}`]));
    channel.sendToQueue(queue, body, { headers });
    const message = await (await consume(channel, queue, { noAck: true })).next();
    expect("body", message.content.equals(body), true);
    expect("headers", message.properties.headers, headers);
  });
}

run([
  deadLettersOfRejectionExpiryAndLength,
  expirationOfAMessageIsToldToItsGrave,
  prioritiesOrderMessages,
  directReplyTo,
  exchangesOfAllKinds,
  copiesByHeader,
  returnsComeBeforeConfirms,
  fullQueueNacksAPublish,
  redeliveryAndRecover,
  consumersPrioritiesAndCancellation,
  singleActiveConsumer,
  quorumQueueLimitsDeliveries,
  streamIsReadAgain,
  prefetchOfConsumersAndChannels,
  errorsCloseTheChannel,
  largeMessagesAndManyHeaders,
], true);
