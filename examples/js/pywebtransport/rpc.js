/** Remote calls in both directions: the peer of `pywebtransport.rpc.RpcManager`. */

import { Limit, MAX_LENGTH, check, checkInteger, checkTime, ignore } from "./checks.js";
import { RpcCancelledError, RpcError, RpcErrorCode, RpcTimeoutError } from "./errors.js";
import { SerializationError, StreamError, remoteError } from "./errors.js";
import { JSONSerializer } from "./serializers.js";
import { endOf, explained } from "./session.js";
import { StructuredStream } from "./streams.js";

const TYPES = { Request: 1, Result: 2, Failure: 3, Notification: 4 };

// What the streams of calls are reset and stopped with.
const DONE = 0;
const CANCELLED = 1;
const BAD_MESSAGE = 2;

const REQUEST_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;

const isText = (value) => typeof value === "string";
const isMapping = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** Lets a number of calls run at the same time; the others wait in the order in which they came. */
class Slots {
  #free;
  #waiting = [];

  constructor(count) {
    this.#free = count;
  }

  async acquire(limit = null) {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    let enter;
    const turn = new Promise((resolve) => this.#waiting.push((enter = resolve)));
    try {
      await (limit ? limit.race(turn) : turn);
    } catch (error) {
      const at = this.#waiting.indexOf(enter);
      if (at >= 0) this.#waiting.splice(at, 1);
      else this.release();
      throw error;
    }
  }

  release() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}

/**
 * Calls methods of the server, and lets the server call methods of this page, over one session.
 *
 *     const rpc = new Rpc(session, { methods: { confirm: (total) => window.confirm(total) } });
 *     const item = await rpc.call("item", ["tea"]);
 *
 * Each call has a bidirectional stream of its own. The object accepts all bidirectional streams
 * that the server opens; unidirectional streams and datagrams remain yours.
 */
export class Rpc {
  #session;
  #options;
  #methods = new Map();
  #slots;
  #running = new Set();
  #waiting = null;
  #closed = false;

  /**
   * @param {WebTransport} session
   * @param {object} [options]
   * @param {Object<string, function>} [options.methods] What the server may call; see `register`.
   * @param {object} [options.serializer] As at the server; by default `JSONSerializer`.
   * @param {number} [options.timeoutMs] For calls without a limit of their own.
   * @param {number} [options.concurrencyLimit] Calls at the same time, in each direction.
   * @param {number} [options.maxMessageSize] Bytes of a request or an answer.
   */
  constructor(session, options = {}) {
    const defaults = {
      methods: {},
      serializer: new JSONSerializer(),
      timeoutMs: 30_000,
      concurrencyLimit: 100,
      maxMessageSize: 1024 * 1024,
    };
    this.#options = { ...defaults, ...options };
    const { methods, timeoutMs, concurrencyLimit, maxMessageSize } = this.#options;
    checkTime("timeoutMs", timeoutMs);
    checkInteger("concurrencyLimit", concurrencyLimit, 1, 1_000_000);
    checkInteger("maxMessageSize", maxMessageSize, 1, MAX_LENGTH);
    this.#session = session;
    this.#slots = new Slots(concurrencyLimit);
    for (const [name, method] of Object.entries(methods)) this.register(name, method);
    endOf(session).promise.then((error) => this.#end(error));
    this.#accept();
  }

  /** The session below. */
  get session() {
    return this.#session;
  }

  /** The serializer of requests and answers. */
  get serializer() {
    return this.#options.serializer;
  }

  /**
   * Let the server call a function.
   *
   * @param {string} name
   * @param {function} method Called with the parameters, and with `{named, metadata, signal}` after
   *   them: parameters by name, what interceptors have added, and an AbortSignal that tells when
   *   nobody waits for the answer any more. What it throws becomes "internal error" for the caller,
   *   unless it is an `RpcError` of your own.
   */
  register(name, method) {
    check(typeof method === "function", `methods.${name}`, method, "a function");
    this.#methods.set(name, method);
  }

  /** Remove a method; running calls go on. */
  unregister(name) {
    this.#methods.delete(name);
  }

  /**
   * Call a method of the server.
   *
   * @param {string} method
   * @param {Array} [params] Parameters by position.
   * @param {object} [options]
   * @param {Object<string, any>} [options.named] Parameters by name.
   * @param {Object<string, string>} [options.metadata] For the interceptors of the server.
   * @param {number} [options.timeoutMs] For everything; the server ends its handler then, too.
   * @param {AbortSignal} [options.signal] Cancels the call and its handler (Firefox does not tell
   *   the server); the promise is rejected with its reason.
   * @returns {Promise<any>} What the method returned.
   * @throws {RpcError} The method raised it, or one of the subclasses says what happened.
   * @throws {SerializationError|SessionClosedError|ConfigurationError}
   */
  async call(method, params = [], options = {}) {
    const answer = await this.#send("Request", method, params, options);
    if (answer.type === "Failure") throw remoteError(answer.value, method);
    return answer.value.value ?? null;
  }

  /** Call a method of the server without an answer, not even an error. Arguments as of `call`. */
  async notify(method, params = [], options = {}) {
    await this.#send("Notification", method, params, options);
  }

  /** Cancel the calls of both directions, and take no more; the session stays open. */
  close() {
    this.#closed = true;
    this.#end(new RpcCancelledError("the calls of this page were closed", cancelled));
    this.#waiting?.cancel().catch(ignore);
  }

  #end(error) {
    for (const limit of this.#running) limit.stop(error);
  }

  // ------------------------------------------------------------------------ calling

  async #send(type, method, params, options) {
    const { named = {}, metadata = {}, timeoutMs = this.#options.timeoutMs, signal } = options;
    const fits = isText(method) && method.length > 0 && method.length <= 256;
    check(fits, "method", method, "a name of 1 to 256 characters");
    check(Array.isArray(params), "params", params, "an array");
    check(isMapping(named), "named", named, "an object");
    const texts = isMapping(metadata) && Object.values(metadata).every(isText);
    check(texts, "metadata", metadata, "an object of strings");
    checkTime("timeoutMs", timeoutMs);
    if (this.#closed) throw new RpcCancelledError("this Rpc is closed", cancelled);
    const deadline = performance.now() + timeoutMs;
    const limit = new Limit(signal).within(timeoutMs, () => {
      const text = `${method}: no answer within ${timeoutMs} ms`;
      return new RpcTimeoutError(text, { code: RpcErrorCode.TIMEOUT, method });
    });
    this.#running.add(limit);
    try {
      await this.#slots.acquire(limit);
      try {
        const stream = await this.#open(limit);
        const timeout = Math.max(0.001, (deadline - performance.now()) / 1000);
        return await this.#ask(stream, limit, type, { method, params, named, metadata, timeout });
      } finally {
        this.#slots.release();
      }
    } finally {
      this.#running.delete(limit);
      limit.end();
    }
  }

  /** A stream, as soon as the server's limits allow one more. */
  async #open(limit) {
    const opening = this.#session.createBidirectionalStream();
    try {
      return this.#structured(await limit.race(opening));
    } catch (error) {
      if (!limit.signal.aborted) throw await explained(error, this.#session, "there is no stream");
      opening.then((late) => this.#structured(late).abort(CANCELLED), ignore);
      throw error;
    }
  }

  async #ask(stream, limit, type, request) {
    let code = CANCELLED;
    try {
      const sending = stream.write(stream.encode(type, request));
      if (type === "Notification") {
        await limit.race(sending);
        // The server finishes its side when it has read the request.
        stream.receive().catch(ignore).then(() => stream.abort(DONE));
        return null;
      }
      // If the server stops reading the request, its answer may say why.
      sending.catch(ignore);
      const answer = await limit.race(this.#answer(stream, request.method));
      // Not finished but reset, see finishWhenRead.
      stream.abort(DONE);
      return answer;
    } catch (error) {
      if (error instanceof SerializationError) code = BAD_MESSAGE;
      stream.abort(code);
      throw error;
    }
  }

  async #answer(stream, method) {
    let answer;
    try {
      answer = await stream.receive();
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      const why = `the server gave the call up: ${error.message}`;
      throw new RpcCancelledError(`${method}: ${why}`, { ...cancelled, method, remote: true });
    }
    if (answer === null) {
      const why = "the server did not answer";
      throw new RpcCancelledError(`${method}: ${why}`, { ...cancelled, method, remote: true });
    }
    const { type, value } = answer;
    const known = type === "Result" || (type === "Failure" && Number.isInteger(value?.code));
    if (known && isMapping(value)) return answer;
    throw new SerializationError(`${method}: expected a result or a failure, got a ${type}`);
  }

  #structured(stream) {
    const { serializer, maxMessageSize } = this.#options;
    const session = this.#session;
    return new StructuredStream(stream, { serializer, maxMessageSize, session, types: TYPES });
  }

  // ------------------------------------------------------------------------ serving

  async #accept() {
    const slots = new Slots(this.#options.concurrencyLimit);
    this.#waiting = this.#session.incomingBidirectionalStreams.getReader();
    try {
      for (;;) {
        await slots.acquire();
        const { value, done } = await this.#waiting.read();
        if (done) return;
        this.#serve(this.#structured(value)).finally(() => slots.release());
      }
    } catch {
      // The session has ended, and those who wait for its calls are told so.
    }
  }

  /** Serve one call. Never throws. */
  async #serve(stream) {
    const limit = new Limit();
    this.#running.add(limit);
    try {
      const answer = await this.#answerTo(stream, limit);
      if (!answer) {
        stream.abort(DONE);
        return;
      }
      await this.#reply(stream, answer);
      finishWhenRead(stream);
    } catch {
      // The caller or the session is gone, or this object was closed.
      stream.abort(CANCELLED);
    } finally {
      this.#running.delete(limit);
      limit.end();
    }
  }

  async #answerTo(stream, limit) {
    let request;
    try {
      limit.within(REQUEST_TIMEOUT_MS, () => invalid("the request did not arrive in time"));
      request = checkedRequest(await limit.race(stream.receive()));
    } catch (error) {
      stream.stop(BAD_MESSAGE);
      if (error instanceof SerializationError) return failure(invalid(error.message));
      if (error.code === RpcErrorCode.INVALID_REQUEST) return failure(error);
      throw error;
    }
    const { method, params, named, metadata, timeout } = request.value;
    const isCall = request.type === "Request";
    limit.within(timeout ? timeout * 1000 : null, () => {
      const text = `not finished within ${timeout} seconds`;
      return new RpcTimeoutError(text, { code: RpcErrorCode.TIMEOUT });
    });
    if (isCall) {
      const text = "nobody waits for the answer";
      stream.onStopped(() => limit.stop(new RpcCancelledError(text, cancelled)));
    }
    try {
      const context = { named: named ?? {}, metadata: metadata ?? {}, signal: limit.signal };
      const result = await limit.race(this.#invoke(method, params ?? [], context));
      return isCall ? { type: "Result", value: { value: result ?? null } } : null;
    } catch (error) {
      if (limit.signal.aborted && !(error instanceof RpcTimeoutError)) throw error;
      if (isCall && error instanceof RpcError && !error.remote) return failure(error);
      reportError(error);
      return isCall ? failure(new RpcError("internal error")) : null;
    }
  }

  async #invoke(name, params, context) {
    const method = this.#methods.get(name);
    if (method) return await method(...params, context);
    const code = RpcErrorCode.METHOD_NOT_FOUND;
    throw new RpcError(`there is no method '${name}'`, { code });
  }

  async #reply(stream, { type, value }) {
    try {
      await stream.send(type, value);
    } catch (error) {
      if (!(error instanceof SerializationError)) throw error;
      reportError(error);
      await stream.send("Failure", failure(new RpcError("internal error")).value);
    }
  }
}

/**
 * Finish the stream of an answer, unless the caller has stopped it before.
 *
 * A caller of this library stops it when it has the answer, so there is no end to acknowledge:
 * Chromium crashes when a session ends before the peer has acknowledged the end of a stream.
 */
function finishWhenRead(stream) {
  const timer = setTimeout(() => stream.finish(), STOP_TIMEOUT_MS);
  stream.onStopped(() => clearTimeout(timer));
  stream.stop(DONE);
}

const cancelled = { code: RpcErrorCode.CANCELLED };

const failure = ({ code, message, data }) => ({ type: "Failure", value: { code, message, data } });

const invalid = (message) => new RpcError(message, { code: RpcErrorCode.INVALID_REQUEST });

function checkedRequest(request) {
  const { type, value } = request ?? {};
  if (type !== "Request" && type !== "Notification") throw invalid("expected a request");
  if (!isMapping(value) || !isText(value.method)) throw invalid("a request has a method");
  if (!Array.isArray(value.params ?? [])) throw invalid("params must be an array");
  const { timeout = null } = value;
  if (timeout !== null && !(typeof timeout === "number" && timeout > 0)) {
    throw invalid("timeout must be seconds > 0 or null");
  }
  return request;
}
