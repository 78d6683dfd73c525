"use strict";
// What the Node scripts share: where the broker is, deadlines, comparisons, the runner.

const assert = require("node:assert");
const { randomBytes } = require("node:crypto");

const DEADLINE_MS = 15000;

exports.amqpUrl = `amqp://guest:guest@127.0.0.1:${process.env.INTEROP_AMQP_PORT}/`;
exports.mqttUrl = `mqtt://127.0.0.1:${process.env.INTEROP_MQTT_PORT}`;

/** A name that no other check uses. */
exports.unique = (prefix) => `${prefix}-${randomBytes(4).toString("hex")}`;

/** Fails unless `got` equals `want`, deeply. */
exports.expect = (what, got, want) => {
  try {
    assert.deepStrictEqual(got, want);
  } catch (error) {
    throw new Error(`${what}: ${error.message}`);
  }
};

/** Items that arrive one by one; `next` waits for one, at most for the deadline. */
exports.Inbox = class {
  #items = [];
  #waiting = [];

  push(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter(item);
    else this.#items.push(item);
  }

  next() {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`nothing came for ${DEADLINE_MS} ms`)),
        DEADLINE_MS,
      );
      this.#waiting.push((item) => {
        clearTimeout(timer);
        resolve(item);
      });
    });
  }

  async take(count) {
    const taken = [];
    while (taken.length < count) taken.push(await this.next());
    return taken;
  }
};

/**
 * Runs the checks in order and ends the process: 0 when all held, 1 at the first failure. With
 * `goOn` the rest runs after a failure as well, so that one run tells all of them.
 */
exports.run = async (checks, goOn = false) => {
  const wanted = process.argv.slice(2);
  let failed = 0;
  for (const check of checks) {
    if (wanted.length > 0 && !wanted.includes(check.name)) continue;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("took too long")), 4 * DEADLINE_MS);
    });
    try {
      await Promise.race([check(), late]);
    } catch (error) {
      console.log(`FAIL: ${check.name}: ${error.stack}`);
      failed += 1;
      if (!goOn) break;
      continue;
    } finally {
      clearTimeout(timer);
    }
    console.log(`ok: ${check.name.replace(/([A-Z0-9]+)/g, " $1").toLowerCase()}`);
  }
  process.exit(failed > 0 ? 1 : 0);
};
