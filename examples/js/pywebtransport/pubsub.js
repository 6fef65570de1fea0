/** Publish/subscribe: the peer of `pywebtransport.pubsub.Broker`. */

import { Limit, MAX_LENGTH, check, checkInteger, ignore } from "./checks.js";
import { PubSubError, PubSubErrorCode, SessionClosedError, StreamError } from "./errors.js";
import { SerializationError, SlowSubscriberError, TransportError, brokerError } from "./errors.js";
import { Rpc } from "./rpc.js";
import { endOf } from "./session.js";
import { StructuredStream } from "./streams.js";

const TYPES = { Opening: 16, Message: 17, Dropped: 18, Gap: 19 };
const MESSAGE = TYPES.Message;

const CALL_ROOM = 4096; // bytes that the call to publish a message takes in addition
const OPENING_TIMEOUT_MS = 10_000;
const QUEUE_BYTES = 1024 * 1024;
const POLICIES = ["drop_oldest", "drop_newest", "close"];

/**
 * Publishes and subscribes at the broker on the other end of a session.
 *
 *     const pubsub = new PubSub(session);
 *     const room = await pubsub.subscribe("rooms.python");
 *     await pubsub.publish("rooms.python", { author: "ann", text: "hello" });
 *     for await (const { topic, data } of room) console.log(topic, data);
 *
 * It accepts all unidirectional streams that the server opens; its `Rpc` accepts the bidirectional
 * ones. Datagrams remain yours.
 */
export class PubSub {
  #rpc;
  #ownRpc;
  #maxMessageSize;
  #subscriptions = new Map();
  #lastNumber = 0;
  #incoming;

  /**
   * @param {WebTransport} session
   * @param {object} [options]
   * @param {Rpc} [options.rpc] An `Rpc` of this session, to use both; by default a new one.
   * @param {object} [options.serializer] As at the broker, if there is no `rpc`.
   * @param {number} [options.maxMessageSize] The largest message in bytes.
   */
  constructor(session, { rpc = null, serializer, maxMessageSize = 65_536 } = {}) {
    checkInteger("maxMessageSize", maxMessageSize, 1, MAX_LENGTH - CALL_ROOM);
    check(rpc === null || rpc.session === session, "rpc", rpc, "an Rpc of this session");
    this.#ownRpc = rpc === null;
    const options = { maxMessageSize: maxMessageSize + CALL_ROOM };
    if (serializer !== undefined) options.serializer = serializer;
    this.#rpc = rpc ?? new Rpc(session, options);
    this.#maxMessageSize = maxMessageSize;
    this.#incoming = session.incomingUnidirectionalStreams.getReader();
    this.#accept();
    endOf(session).promise.then((error) => this.#end(error.code === 0 ? null : error));
  }

  /** The `Rpc` below; it can call other methods of the server, too. */
  get rpc() {
    return this.#rpc;
  }

  /**
   * Send a message to all subscribers of a topic; the promise is fulfilled when the broker has it.
   *
   * @param {string} topic Levels joined by dots.
   * @param {any} [data]
   * @param {object} [options] `timeoutMs` and `signal` as of `Rpc.call`.
   * @throws {PubSubError} Or one of its subclasses: the broker refuses it.
   */
  async publish(topic, data = null, options = {}) {
    check(typeof topic === "string", "topic", topic, "a string");
    await this.#call("publish", topic, [topic, data], options);
  }

  /**
   * Subscribe to a topic or a pattern; the promise is fulfilled when the broker has confirmed.
   *
   * @param {string} topic Levels joined by dots; `*` is any level, a last `**` one or more.
   * @param {object} [options]
   * @param {string} [options.policy] What happens when a queue is full, here or at the broker:
   *   "drop_oldest", "drop_newest", or "close", which ends the subscription.
   * @param {number} [options.maxQueue] Messages that may wait, in each queue.
   * @param {function(Subscription)} [options.onGap] Called when messages may have been lost between
   *   servers.
   * @param {number} [options.timeoutMs]
   * @returns {Promise<Subscription>}
   * @throws {PubSubError} Or one of its subclasses: the broker refuses it.
   */
  async subscribe(topic, options = {}) {
    const { policy = "drop_oldest", maxQueue = 256, onGap = null, timeoutMs } = options;
    check(typeof topic === "string", "topic", topic, "a string");
    check(POLICIES.includes(policy), "policy", policy, `one of ${POLICIES.join(", ")}`);
    checkInteger("maxQueue", maxQueue, 1, 1_000_000);
    const number = (this.#lastNumber += 1);
    const subscription = new Subscription(topic, {
      policy,
      maxQueue,
      onGap,
      maxBytes: Math.max(QUEUE_BYTES, this.#maxMessageSize),
      forget: () => this.#subscriptions.delete(number),
      // A broker that is gone does not have to be told.
      leave: () => this.#rpc.notify("pubsub.unsubscribe", [number]).catch(ignore),
    });
    this.#subscriptions.set(number, subscription);
    try {
      const params = [number, topic, policy, maxQueue, onGap !== null];
      await this.#call("subscribe", topic, params, timeoutMs === undefined ? {} : { timeoutMs });
    } catch (error) {
      subscription.end();
      throw error;
    }
    return subscription;
  }

  /** End all subscriptions; the session stays open. */
  async close() {
    const closing = [...this.#subscriptions.values()].map((subscription) => subscription.close());
    await Promise.all(closing);
    await this.#incoming.cancel().catch(ignore);
    if (this.#ownRpc) this.#rpc.close();
  }

  #end(error) {
    for (const subscription of [...this.#subscriptions.values()]) subscription.end(error);
  }

  async #call(method, topic, params, options) {
    try {
      await this.#rpc.call(`pubsub.${method}`, params, options);
    } catch (error) {
      throw brokerError(error, topic);
    }
  }

  async #accept() {
    try {
      for (;;) {
        const { value, done } = await this.#incoming.read();
        if (done) return;
        this.#deliver(value);
      }
    } catch {
      // The session has ended, and the subscriptions are told so.
    }
  }

  /** Hand a stream of the broker to its subscription. Never throws. */
  async #deliver(readable) {
    const stream = new StructuredStream(readable, {
      serializer: this.#rpc.serializer,
      types: TYPES,
      maxMessageSize: this.#maxMessageSize,
      session: this.#rpc.session,
    });
    const late = () => new StreamError("the stream does not say whose it is", { code: null });
    const limit = new Limit().within(OPENING_TIMEOUT_MS, late);
    try {
      const opening = await limit.race(stream.receive());
      const subscription = this.#subscriptions.get(opening?.value?.subscription);
      if (opening?.type !== "Opening" || !subscription?.attach(stream)) stream.stop();
    } catch {
      stream.stop();
    } finally {
      limit.end();
    }
  }
}

/** The messages of a topic or pattern; `PubSub.subscribe` makes it. */
export class Subscription {
  #options;
  #queue = [];
  #queued = 0;
  #takers = [];
  #stream = null;
  #droppedHere = 0;
  #droppedThere = 0;
  #ended = false;
  #error = null;

  constructor(topic, options) {
    /** The topic or pattern. */
    this.topic = topic;
    /** How often the broker said that messages may have been lost between servers. */
    this.gaps = 0;
    this.#options = options;
  }

  /** Messages that were dropped here, and those that the broker has reported as dropped. */
  get dropped() {
    return this.#droppedHere + this.#droppedThere;
  }

  /** Messages that wait here. */
  get waiting() {
    return this.#queue.length;
  }

  /** Whether no more messages arrive. */
  get isClosed() {
    return this.#ended;
  }

  /**
   * The next message, or null when the subscription was closed or the session has ended normally.
   *
   * @returns {Promise<?{topic: string, data: any}>}
   * @throws {SlowSubscriberError} The policy is "close", and a queue was full.
   * @throws {PubSubError|SessionClosedError|SerializationError}
   */
  async receive() {
    const message = await this.#take();
    if (message === null) return null;
    const { value } = this.#stream.decode(message);
    if (typeof value?.topic !== "string") {
      throw new SerializationError("the broker sent something that is not a message");
    }
    return { topic: value.topic, data: value.data ?? null };
  }

  /** `for await (const { topic, data } of subscription)`. Leaving the loop does not end it. */
  async *[Symbol.asyncIterator]() {
    for (let message; (message = await this.receive()) !== null; ) yield message;
  }

  /** End the subscription, and the iteration; messages that wait are forgotten. */
  async close() {
    this.#queue = [];
    if (this.#ended) return;
    this.end();
    await this.#options.leave();
  }

  // Called by PubSub.

  attach(stream) {
    if (this.#stream || this.#ended) return false;
    this.#stream = stream;
    this.#read(stream);
    return true;
  }

  end(error = null) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#options.forget();
    this.#stream?.stop();
    for (const { resolve, reject } of this.#takers.splice(0)) {
      if (this.#error) reject(this.#failure());
      else resolve(null);
    }
  }

  async #read(stream) {
    try {
      for (let message; (message = await stream.receiveEncoded()) !== null; ) {
        this.#arrived(message);
      }
      this.end();
    } catch (error) {
      this.end(this.#explained(error));
      if (error instanceof SlowSubscriberError) await this.#options.leave();
    }
  }

  #arrived(message) {
    if (message.id === MESSAGE) {
      this.#push(message);
      return;
    }
    const { type, value } = this.#stream.decode(message);
    if (type === "Dropped") this.#droppedThere = value.total;
    if (type === "Gap") {
      this.gaps = value.total;
      try {
        this.#options.onGap?.(this);
      } catch (error) {
        reportError(error);
      }
    }
  }

  #push(message) {
    const taker = this.#takers.shift();
    if (taker) {
      taker.resolve(message);
      return;
    }
    const { policy, maxQueue, maxBytes } = this.#options;
    const size = message.payload.length;
    const isFull = () => this.#queue.length >= maxQueue || this.#queued + size > maxBytes;
    if (isFull() && policy === "close") throw this.#tooSlow(false);
    if (isFull() && policy === "drop_newest") {
      this.#droppedHere += 1;
      return;
    }
    while (this.#queue.length > 0 && isFull()) {
      this.#queued -= this.#queue.shift().payload.length;
      this.#droppedHere += 1;
    }
    this.#queue.push(message);
    this.#queued += size;
  }

  #take() {
    if (this.#queue.length > 0) {
      const message = this.#queue.shift();
      this.#queued -= message.payload.length;
      return message;
    }
    if (!this.#ended) {
      return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
    }
    if (this.#error) throw this.#failure();
    return null;
  }

  /** The error of the end; it is told once. */
  #failure() {
    const error = this.#error;
    this.#error = null;
    return error;
  }

  #tooSlow(remote) {
    const { topic } = this;
    const code = PubSubErrorCode.TOO_SLOW;
    const text = "the subscription ended: messages were not taken in time";
    return new SlowSubscriberError(text, { code, topic, remote });
  }

  #explained(error) {
    if (error instanceof SessionClosedError && error.code === 0) return null;
    if (error instanceof StreamError && error.code === PubSubErrorCode.TOO_SLOW) {
      return this.#tooSlow(true);
    }
    if (error instanceof StreamError) {
      const code = PubSubErrorCode.UNAVAILABLE;
      const text = `the broker ended the subscription: ${error.message}`;
      return new PubSubError(text, { code, topic: this.topic, remote: true });
    }
    if (error instanceof TransportError) return error;
    return new PubSubError(String(error), { topic: this.topic, cause: error });
  }
}
