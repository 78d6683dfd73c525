"use strict";
// rascal, the Node library over amqplib: publications, subscriptions, retries and dead letters.

const Rascal = require("rascal");
const { once } = require("node:events");
const { amqpUrl, expect, Inbox, run, unique } = require("./checks.js");

/** Runs a body with a broker of a configuration, which is taken down and away afterwards. */
async function withBroker(vhost, body) {
  const config = Rascal.withDefaultConfig({
    redeliveries: { counters: { counting: { type: "inMemory", size: 100 } } },
    vhosts: { "/": { connection: { url: amqpUrl, socketOptions: { timeout: 5000 } }, ...vhost } },
  });
  const broker = await Rascal.BrokerAsPromised.create(config);
  broker.on("error", () => {});
  try {
    await body(broker);
  } finally {
    await broker.nuke().catch(() => {});
  }
}

/** What a subscription is given, as [message, content, ackOrNack]. */
async function subscribe(broker, name, overrides) {
  const inbox = new Inbox();
  const subscription = await broker.subscribe(name, overrides);
  subscription.on("message", (...given) => inbox.push(given));
  for (const event of ["error", "invalid_content", "redeliveries_exceeded"]) {
    subscription.on(event, () => {});
  }
  return { subscription, inbox };
}

async function publish(broker, name, content, overrides) {
  await succeeded(await broker.publish(name, content, overrides));
}

/** Waits until the broker has confirmed a publication; fails with what went wrong. */
async function succeeded(publication) {
  // `once` takes an error as a failure, but more of them may follow.
  const success = once(publication, "success");
  publication.on("error", () => {});
  await success;
}

async function publicationsAndSubscriptions() {
  await withBroker({
    exchanges: { events: { type: "topic", options: { durable: false } } },
    queues: { users: { options: { durable: false } }, all: { options: { durable: false } } },
    bindings: ["events[user.*] -> users", "events[#] -> all"],
    publications: { created: { exchange: "events", routingKey: "user.created" },
      other: { exchange: "events", routingKey: "order.created" } },
    subscriptions: { users: { queue: "users" }, all: { queue: "all", prefetch: 1 } },
  }, async (broker) => {
    await publish(broker, "created", { name: "Ann" });
    await publish(broker, "other", "text", { options: { headers: { mine: 1 } } });
    const users = await subscribe(broker, "users");
    const all = await subscribe(broker, "all");
    const [message, content, done] = await users.inbox.next();
    expect("content", content, { name: "Ann" });
    expect("type", message.properties.contentType, "application/json");
    done();
    const got = [];
    for (let each = 0; each < 2; each += 1) {
      const [, value, settle] = await all.inbox.next();
      got.push(value);
      settle();
    }
    expect("all", got, [{ name: "Ann" }, "text"]);
  });
}

async function returnsOfWhatCannotBeRouted() {
  await withBroker({
    exchanges: { nowhere: { type: "direct", options: { durable: false } } },
    publications: { lost: { exchange: "nowhere", options: { mandatory: true } } },
  }, async (broker) => {
    const publication = await broker.publish("lost", "x");
    publication.on("error", () => {});
    const [message] = await once(publication, "return");
    expect("code", message.fields.replyCode, 312);
  });
}

async function nackStrategyDeadLetters() {
  await withBroker({
    exchanges: { work: { options: { durable: false } }, graves: { options: { durable: false } } },
    queues: {
      work: { options: { durable: false, arguments: { "x-dead-letter-exchange": "graves" } } },
      graves: { options: { durable: false } },
    },
    bindings: ["work -> work", "graves -> graves"],
    publications: { work: { exchange: "work", routingKey: "job" } },
    subscriptions: { work: { queue: "work" }, graves: { queue: "graves" } },
  }, async (broker) => {
    const work = await subscribe(broker, "work");
    const graves = await subscribe(broker, "graves");
    await publish(broker, "work", { job: 1 });
    const [, , done] = await work.inbox.next();
    done(new Error("no"), { strategy: "nack" });
    const [message, content, buried] = await graves.inbox.next();
    expect("content", content, { job: 1 });
    const [death] = message.properties.headers["x-death"];
    expect("death", [death.reason, death.exchange, death["routing-keys"], death.count],
      ["rejected", "work", ["job"], 1]);
    buried();
  });
}

async function republishStrategyCountsAndGivesUp() {
  await withBroker({
    queues: { jobs: { options: { durable: false } } },
    publications: { jobs: { queue: "jobs" } },
    subscriptions: { jobs: { queue: "jobs" } },
  }, async (broker) => {
    const { inbox } = await subscribe(broker, "jobs");
    await publish(broker, "jobs", "try");
    const recovery = [{ strategy: "republish", attempts: 2, defer: 20 }, { strategy: "ack" }];
    for (const attempts of [undefined, 1, 2]) {
      const [message, content, done] = await inbox.next();
      expect("content", content, "try");
      const recovered = message.properties.headers.rascal?.recovery;
      expect("attempts", recovered && Object.values(recovered)[0].republished, attempts);
      done(new Error("again"), recovery);
    }
    await publish(broker, "jobs", "last");
    const [, content, done] = await inbox.next();
    expect("then the next", content, "last");
    // Without this, taking down the broker would wait for it.
    done();
  });
}

async function forwardStrategyKeepsTheRoutingKey() {
  await withBroker({
    exchanges: { jobs: { options: { durable: false } }, later: { options: { durable: false } } },
    queues: { jobs: { options: { durable: false } }, later: { options: { durable: false } } },
    bindings: ["jobs[a.#] -> jobs", "later[a.#] -> later"],
    publications: { jobs: { exchange: "jobs", routingKey: "a.b" }, later: { exchange: "later" } },
    subscriptions: { jobs: { queue: "jobs" }, later: { queue: "later" } },
  }, async (broker) => {
    const jobs = await subscribe(broker, "jobs");
    const later = await subscribe(broker, "later");
    await publish(broker, "jobs", "x");
    const [, , done] = await jobs.inbox.next();
    done(new Error("not now"), { strategy: "forward", publication: "later" });
    const [message, content, settle] = await later.inbox.next();
    expect("content", content, "x");
    const { rascal } = message.properties.headers;
    expect("original key", rascal.originalRoutingKey ?? message.fields.routingKey, "a.b");
    settle();
  });
}

async function delayedRetriesByDeadLetters() {
  await withBroker({
    exchanges: ["jobs", "retry", "delay"].reduce(
      (all, name) => ({ ...all, [name]: { options: { durable: false } } }), {}),
    queues: {
      jobs: { options: { durable: false, arguments: { "x-dead-letter-exchange": "delay" } } },
      delay: { options: { durable: false,
        arguments: { "x-message-ttl": 60, "x-dead-letter-exchange": "retry" } } },
    },
    bindings: ["jobs -> jobs", "retry -> jobs", "delay -> delay"],
    publications: { jobs: { exchange: "jobs", routingKey: "job" } },
    subscriptions: { jobs: { queue: "jobs" } },
  }, async (broker) => {
    const { inbox } = await subscribe(broker, "jobs");
    await publish(broker, "jobs", "again");
    const counts = [];
    for (let turn = 0; turn < 3; turn += 1) {
      const [message, , done] = await inbox.next();
      const deaths = message.properties.headers["x-death"] ?? [];
      counts.push(Object.fromEntries(deaths.map(({ reason, count }) => [reason, count])));
      if (turn < 2) done(new Error("later"), { strategy: "nack" });
      else done();
    }
    expect("deaths", counts, [{}, { expired: 1, rejected: 1 }, { expired: 2, rejected: 2 }]);
  });
}

async function redeliveriesAreLimited() {
  await withBroker({
    queues: { jobs: { options: { durable: false } } },
    publications: { jobs: { queue: "jobs" } },
    subscriptions: { jobs: { queue: "jobs", redeliveries: { counter: "counting", limit: 2 } } },
  }, async (broker) => {
    const exceeded = new Inbox();
    const subscription = await broker.subscribe("jobs");
    let seen = 0;
    subscription.on("message", (message, content, done) => {
      seen += 1;
      done(new Error("bad"), { strategy: "nack", requeue: true });
    });
    subscription.on("error", () => {});
    subscription.on("redeliveries_exceeded", (error, message, done) => {
      exceeded.push(message.properties.headers.rascal.redeliveries);
      done();
    });
    await publish(broker, "jobs", "poison");
    expect("redeliveries", await exceeded.next() > 2, true);
    expect("seen before", seen > 0, true);
  });
}

async function invalidContentIsTold() {
  await withBroker({
    queues: { jobs: { options: { durable: false } } },
    publications: { jobs: { queue: "jobs" } },
    subscriptions: { jobs: { queue: "jobs", contentType: "application/json" } },
  }, async (broker) => {
    const subscription = await broker.subscribe("jobs");
    subscription.on("message", () => {}).on("error", () => {});
    const invalid = once(subscription, "invalid_content");
    await publish(broker, "jobs", Buffer.from("{"), { options: { contentType: "text/plain" } });
    const [, , done] = await invalid;
    done();
  });
}

async function forwardedMessagesAndShutdown() {
  const queue = unique("plain");
  await withBroker({
    queues: { [queue]: { options: { durable: false } }, copy: { options: { durable: false } } },
    publications: { first: { queue }, second: { queue: "copy" } },
    subscriptions: { first: { queue }, second: { queue: "copy" } },
  }, async (broker) => {
    const first = await subscribe(broker, "first");
    const second = await subscribe(broker, "second");
    await publish(broker, "first", "on");
    const [message, , done] = await first.inbox.next();
    const forwarded = await broker.forward("second", message);
    await succeeded(forwarded);
    done();
    const [, content, settle] = await second.inbox.next();
    expect("forwarded", content, "on");
    settle();
    await first.subscription.cancel();
    await broker.unsubscribeAll();
  });
}

run([
  publicationsAndSubscriptions,
  returnsOfWhatCannotBeRouted,
  nackStrategyDeadLetters,
  republishStrategyCountsAndGivesUp,
  forwardStrategyKeepsTheRoutingKey,
  delayedRetriesByDeadLetters,
  redeliveriesAreLimited,
  invalidContentIsTold,
  forwardedMessagesAndShutdown,
], true);
