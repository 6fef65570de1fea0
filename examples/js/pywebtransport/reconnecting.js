/** A session that comes back. */

import { Limit, check, checkTime, ignore } from "./checks.js";
import { ConfigurationError, ConnectionError } from "./errors.js";
import { connect, endOf } from "./session.js";

/**
 * Keeps a session open: whenever one ends, it opens another after a pause.
 *
 *     const connection = new Reconnecting(
 *       async () => (await fetch("config.json")).json(),
 *       {
 *         onSession: async (session) => { pubsub = new PubSub(session); ... },
 *         onState: (state) => { badge.textContent = state; },
 *       },
 *     );
 *     const session = await connection.getSession();
 *
 * Each pause is a random time between 0 and a maximum, which begins at `minDelayMs`, doubles with
 * each attempt up to `maxDelayMs`, and begins again after a session that lived for `minDelayMs`. So
 * the pages of a server that restarts do not come back all at the same moment.
 */
export class Reconnecting {
  #target;
  #options;
  #closing = new AbortController();
  #session = null;
  #state = "connecting";
  #error = null;
  #waiters = [];

  /**
   * @param {string|object|function} target As for `connect`, or a function that returns it or a
   *   promise of it. A function is asked before each attempt: a development server that was started
   *   again has another certificate.
   * @param {object} [options]
   * @param {function(WebTransport)} [options.onSession] Called with each session, to log in or to
   *   subscribe. `getSession` waits for it. If it throws, the attempt has failed.
   * @param {function(string, ?Error)} [options.onState] Called with "connecting", "open", "waiting"
   *   or "closed", and with the error that ended the last session or attempt.
   * @param {number} [options.minDelayMs] The first maximum of a pause.
   * @param {number} [options.maxDelayMs] The last maximum of a pause.
   * @param {number} [options.timeoutMs] How long an attempt may take, `onSession` included.
   * @param {number} [options.maxAttempts] Failed attempts in a row, after which it gives up.
   * @param {function(string, object)} [options.fallback] As for `connect`.
   * @param {number} [options.fallbackAfterMs] As for `connect`.
   */
  constructor(target, options = {}) {
    const defaults = {
      onSession: ignore,
      onState: ignore,
      minDelayMs: 250,
      maxDelayMs: 10_000,
      timeoutMs: 10_000,
      maxAttempts: Infinity,
    };
    this.#options = { ...defaults, ...options };
    const { minDelayMs, maxDelayMs, timeoutMs, maxAttempts } = this.#options;
    checkTime("minDelayMs", minDelayMs);
    checkTime("maxDelayMs", maxDelayMs);
    checkTime("timeoutMs", timeoutMs);
    check(maxAttempts >= 1, "maxAttempts", maxAttempts, "a number of at least 1");
    this.#target = target;
    globalThis.addEventListener?.("pagehide", this.#leave);
    this.#run();
  }

  /** "connecting", "open", "waiting" or "closed". */
  get state() {
    return this.#state;
  }

  /** The open session, or null. */
  get session() {
    return this.#session;
  }

  /** What ended the last session or attempt, or null. */
  get error() {
    return this.#error;
  }

  /**
   * The open session, or the next one.
   *
   * @param {object} [options]
   * @param {number} [options.timeoutMs] How long to wait; by default without a limit.
   * @param {AbortSignal} [options.signal]
   * @returns {Promise<WebTransport>}
   * @throws {ConnectionError} There was none in time, or this object was closed or has given up.
   */
  async getSession({ timeoutMs = null, signal } = {}) {
    if (timeoutMs !== null) checkTime("timeoutMs", timeoutMs);
    if (this.#session) return this.#session;
    if (this.#state === "closed") throw this.#givenUp();
    const limit = new Limit(signal).within(timeoutMs, () => this.#late(timeoutMs));
    const waiter = {};
    this.#waiters.push(waiter);
    try {
      return await limit.race(
        new Promise((resolve, reject) => Object.assign(waiter, { resolve, reject })),
      );
    } finally {
      limit.end();
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
    }
  }

  /** Close the session, and open no other. */
  close({ closeCode = 0, reason = "" } = {}) {
    globalThis.removeEventListener?.("pagehide", this.#leave);
    this.#session?.close({ closeCode, reason });
    this.#closing.abort(new ConnectionError("this connection was closed"));
    this.#set("closed");
  }

  // Firefox keeps the sessions of a page that was left.
  #leave = (event) => {
    if (!event.persisted) this.close();
  };

  #late(timeoutMs) {
    return new ConnectionError(`no session within ${timeoutMs} ms`, { cause: this.#error });
  }

  #givenUp() {
    const why = this.#closing.signal.aborted ? "it was closed" : "it has given up";
    return new ConnectionError(`there is no session: ${why}`, { cause: this.#error });
  }

  #set(state, error = null) {
    if (this.#state === "closed") return;
    this.#state = state;
    if (error) this.#error = error;
    if (state !== "open") this.#session = null;
    const waiters = state === "open" || state === "closed" ? this.#waiters.splice(0) : [];
    for (const { resolve, reject } of waiters) {
      if (state === "open") resolve(this.#session);
      else reject(this.#givenUp());
    }
    this.#options.onState(state, error);
  }

  async #run() {
    const { minDelayMs, maxDelayMs, maxAttempts } = this.#options;
    let failures = 0;
    let longest = minDelayMs;
    while (this.#state !== "closed") {
      this.#set("connecting", this.#error);
      let opened = Infinity;
      let error;
      try {
        const session = await this.#attempt();
        opened = performance.now();
        failures = 0;
        this.#session = session;
        this.#set("open");
        error = await endOf(session).promise;
      } catch (caught) {
        error = caught;
        failures += 1;
      }
      if (this.#state === "closed") return;
      if (failures >= maxAttempts || error instanceof ConfigurationError) {
        this.#set("closed", error);
        return;
      }
      if (performance.now() - opened >= minDelayMs) longest = minDelayMs;
      this.#set("waiting", error);
      await this.#pause(Math.random() * longest);
      longest = Math.min(maxDelayMs, 2 * longest);
    }
  }

  async #attempt() {
    const { onSession, timeoutMs, fallback, fallbackAfterMs } = this.#options;
    const { signal } = this.#closing;
    const limit = new Limit(signal).within(timeoutMs, () => this.#late(timeoutMs));
    let session = null;
    try {
      const target = typeof this.#target === "function" ? this.#target() : this.#target;
      const options = { timeoutMs, signal, fallback, fallbackAfterMs };
      session = await connect(await limit.race(target), options);
      await limit.race(onSession(session));
      return session;
    } catch (error) {
      session?.close();
      throw error;
    } finally {
      limit.end();
    }
  }

  #pause(delayMs) {
    const { signal } = this.#closing;
    return new Promise((done) => {
      const timer = setTimeout(done, delayMs);
      signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
    });
  }
}
