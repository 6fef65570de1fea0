/** Messages with a type, over streams and datagrams. */

import { MAX_LENGTH, check, checkInteger, ignore } from "./checks.js";
import { DatagramTooLargeError, SerializationError, StreamError } from "./errors.js";
import { JSONSerializer } from "./serializers.js";
import { endOf, explained, streamError } from "./session.js";

const HEADER = 6; // type ID (16 bits) and length (32 bits), in network order
const TYPE_ID = 2;
const TOO_LONG = 0x1004; // ErrorCodes.APP_INVALID_REQUEST; browsers send 255

/** Type IDs and names of messages, and the serializer of their values. */
class Codec {
  #serializer;
  #ids;
  #names;

  constructor(serializer, types) {
    check(typeof serializer?.encode === "function", "serializer", serializer, "a serializer");
    this.#serializer = serializer;
    if (types === null) return;
    check(typeof types === "object", "types", types, "an object of names and type IDs");
    for (const [name, id] of Object.entries(types)) checkInteger(`types.${name}`, id, 0, 0xffff);
    this.#ids = new Map(Object.entries(types));
    this.#names = new Map(Object.entries(types).map(([name, id]) => [id, name]));
    check(this.#names.size === this.#ids.size, "types", types, "one ID for each name");
  }

  /** The bytes of a message after `room` bytes for its header, which begins with the type ID. */
  encode(type, value, room) {
    const id = this.#ids ? this.#ids.get(type) : type;
    if (!Number.isInteger(id) || id < 0 || id > 0xffff) {
      throw new SerializationError(`there is no message type ${String(type)}`);
    }
    const payload = this.#serializer.encode(value);
    const frame = new Uint8Array(room + payload.length);
    new DataView(frame.buffer).setUint16(0, id);
    frame.set(payload, room);
    return frame;
  }

  knows(id) {
    return !this.#names || this.#names.has(id);
  }

  decode({ id, payload }) {
    if (!this.knows(id)) throw new SerializationError(`message type ${id} is not known`, { id });
    const type = this.#names ? this.#names.get(id) : id;
    return { type, value: this.#serializer.decode(payload) };
  }
}

function typeOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, TYPE_ID).getUint16(0);
}

/**
 * Messages over a stream, in order and reliably: the peer of `pywebtransport.StructuredStream`.
 *
 *     const types = { Join: 1, Say: 2 };
 *     const chat = new StructuredStream(await session.createBidirectionalStream(), { types });
 *     await chat.send("Join", { name: "ann" });
 *     for await (const { type, value } of chat) console.log(type, value);
 *
 * Holds one message and one piece of the stream at a time. A message that cannot be read throws
 * `SerializationError`, and the next one can be received. One that is longer than `maxMessageSize`
 * throws it before any of its payload is kept, and ends the receiving half.
 */
export class StructuredStream {
  #codec;
  #session;
  #maxMessageSize;
  #reader = null;
  #writer = null;
  #piece = new Uint8Array(0);
  #last = Promise.resolve();
  #failure = null;

  /**
   * @param {ReadableStream|WritableStream|{readable, writable}} stream A stream of a session. Do
   *   not read or write it elsewhere.
   * @param {object} [options]
   * @param {object} [options.serializer] `JSONSerializer` or `MsgPackSerializer`, as at the peer.
   * @param {Object<string, number>} [options.types] The names of messages and their type IDs.
   *   Without it, types are the numbers themselves.
   * @param {number} [options.maxMessageSize] The largest payload in bytes, both ways.
   * @param {WebTransport} [options.session] With it, errors say when the session has ended.
   */
  constructor(stream, options = {}) {
    const { serializer = new JSONSerializer(), types = null, session = null } = options;
    const { maxMessageSize = 4 * 1024 * 1024 } = options;
    checkInteger("maxMessageSize", maxMessageSize, 1, MAX_LENGTH);
    const readable = stream instanceof ReadableStream ? stream : stream?.readable;
    const writable = stream instanceof WritableStream ? stream : stream?.writable;
    check(readable || writable, "stream", stream, "a stream");
    this.#codec = new Codec(serializer, types);
    this.#session = session;
    this.#maxMessageSize = maxMessageSize;
    this.#reader = readable?.getReader() ?? null;
    this.#writer = writable?.getWriter() ?? null;
    this.#reader?.closed.catch(ignore);
    this.#writer?.closed.catch(ignore);
  }

  /**
   * Send one message; waits while the stream takes no more.
   *
   * @throws {SerializationError} It cannot be written, or is too long. Nothing was sent.
   * @throws {StreamError|SessionClosedError} The stream or the session has ended.
   */
  async send(type, value) {
    await this.write(this.encode(type, value));
  }

  /** The bytes of a message, for `write`. */
  encode(type, value) {
    const frame = this.#codec.encode(type, value, HEADER);
    const size = frame.length - HEADER;
    if (size > this.#maxMessageSize) throw this.#tooLong(size);
    new DataView(frame.buffer).setUint32(TYPE_ID, size);
    return frame;
  }

  /** Send what `encode` has returned. */
  async write(frame) {
    if (!this.#writer) throw oneWay("received from");
    try {
      await this.#writer.write(frame);
    } catch (error) {
      throw await explained(error, this.#session, "the peer stopped the stream");
    }
  }

  /**
   * The next message, or null when the peer has finished the stream.
   *
   * @returns {Promise<?{type, value}>}
   * @throws {SerializationError|StreamError|SessionClosedError}
   */
  async receive() {
    const message = await this.receiveEncoded();
    return message && this.decode(message);
  }

  /** The next message as `{id, payload}`, for `decode`. */
  receiveEncoded() {
    const next = this.#last.then(() => this.#receive());
    this.#last = next.catch(ignore);
    return next;
  }

  decode(message) {
    return this.#codec.decode(message);
  }

  async *[Symbol.asyncIterator]() {
    for (let message; (message = await this.receive()) !== null; ) yield message;
  }

  /** Finish sending; messages can still be received. */
  async close() {
    try {
      await this.#writer?.close();
    } catch (error) {
      throw await explained(error, this.#session, "the peer stopped the stream");
    }
  }

  /** As `close`, without waiting until the peer has everything. */
  finish() {
    this.#writer?.close().catch(ignore);
  }

  /** Watch for the peer's wish that nothing more is sent. */
  onStopped(callback) {
    this.#writer?.closed.catch(callback);
  }

  /** Reset what is sent, and stop what is received; `code` is 0 to 255. */
  abort(code = 0) {
    this.stop(code);
    this.#writer?.abort(streamError(code)).catch(ignore);
  }

  /** Stop what is received. */
  stop(code = 0) {
    this.#reader?.cancel(streamError(code)).catch(ignore);
  }

  async #receive() {
    if (this.#failure) throw this.#failure;
    const header = await this.#read(HEADER, true);
    if (header === null) return null;
    const id = typeOf(header);
    const size = new DataView(header.buffer, header.byteOffset).getUint32(TYPE_ID);
    if (size > this.#maxMessageSize) {
      this.#failure = this.#tooLong(size);
      this.#reader.cancel(streamError(TOO_LONG)).catch(ignore);
      throw this.#failure;
    }
    return { id, payload: await this.#read(size, false) };
  }

  /** So many bytes; null if the stream ends before them, and may. */
  async #read(size, mayEnd) {
    if (!this.#reader) throw oneWay("sent to");
    const pieces = [];
    let missing = size;
    for (;;) {
      const taken = this.#piece.subarray(0, missing);
      this.#piece = this.#piece.subarray(taken.length);
      missing -= taken.length;
      pieces.push(taken);
      if (missing === 0) break;
      const { value, done } = await this.#next();
      if (!done) {
        this.#piece = value;
        continue;
      }
      if (mayEnd && missing === size) return null;
      const text = "the peer finished the stream within a message";
      this.#failure = new StreamError(text, { code: null });
      throw this.#failure;
    }
    return joined(pieces.filter((piece) => piece.length > 0), size);
  }

  async #next() {
    try {
      return await this.#reader.read();
    } catch (error) {
      this.#failure = await explained(error, this.#session, "the peer reset the stream");
      throw this.#failure;
    }
  }

  #tooLong(size) {
    const maxSize = this.#maxMessageSize;
    return new SerializationError(
      `a message of ${size} bytes is larger than maxMessageSize=${maxSize}`,
      { size, maxSize },
    );
  }
}

function oneWay(verb) {
  return new StreamError(`this stream can only be ${verb}`, { code: null });
}

function joined(pieces, size) {
  if (pieces.length === 1) return pieces[0];
  const whole = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/**
 * One message per datagram: quick, but some may be lost, or arrive in another order. The peer of
 * `pywebtransport.StructuredDatagramTransport`. Heartbeats are skipped.
 */
export class StructuredDatagrams {
  #session;
  #codec;
  #reader;
  #writer;

  /**
   * @param {WebTransport} session Do not use its datagrams elsewhere.
   * @param {object} [options] `serializer` and `types` as for `StructuredStream`.
   * @param {number} [options.maxQueue] Datagrams that wait in the browser; it drops older ones.
   */
  constructor(session, { serializer = new JSONSerializer(), types = null, maxQueue = 64 } = {}) {
    checkInteger("maxQueue", maxQueue, 1, 10_000);
    const { datagrams } = session;
    this.#session = session;
    this.#codec = new Codec(serializer, types);
    const limit = "incomingMaxBufferedDatagrams";
    datagrams[limit in datagrams ? limit : "incomingHighWaterMark"] = maxQueue;
    this.#reader = datagrams.readable.getReader();
    this.#writer = (datagrams.createWritable?.() ?? datagrams.writable).getWriter();
    this.#reader.closed.catch(ignore);
    this.#writer.closed.catch(ignore);
    // Firefox lets readers wait after the end of the session.
    endOf(session).promise.then(() => this.#reader.cancel().catch(ignore));
  }

  /**
   * Send one message as a datagram.
   *
   * @throws {DatagramTooLargeError} It does not fit; `maxSize` is the limit.
   * @throws {SerializationError|SessionClosedError}
   */
  async send(type, value) {
    const datagram = this.#codec.encode(type, value, TYPE_ID);
    const maxSize = this.#session.datagrams.maxDatagramSize;
    if (datagram.length > maxSize) {
      const message = `a datagram of ${datagram.length} bytes is larger than ${maxSize}`;
      throw new DatagramTooLargeError(message, { size: datagram.length, maxSize });
    }
    // Firefox lets writers wait, too.
    const end = endOf(this.#session).error;
    if (end) throw end;
    try {
      await this.#writer.write(datagram);
    } catch (error) {
      throw await explained(error, this.#session, "datagrams cannot be sent");
    }
  }

  /**
   * The next message, or null when the session has ended normally.
   *
   * @throws {SerializationError} It cannot be read; the next one can be received.
   * @throws {SessionClosedError} The session was lost, or closed with a code.
   */
  async receive() {
    for (;;) {
      const result = await this.#reader.read().catch(() => ({ done: true }));
      if (result.done) {
        const end = await endOf(this.#session).promise;
        if (end.code === 0) return null;
        throw end;
      }
      const datagram = result.value;
      if (datagram.length < TYPE_ID) {
        throw new SerializationError(`a datagram of ${datagram.length} bytes has no type ID`);
      }
      const message = { id: typeOf(datagram), payload: datagram.subarray(TYPE_ID) };
      if (this.#codec.knows(message.id) || !isHeartbeat(datagram)) {
        return this.#codec.decode(message);
      }
    }
  }

  async *[Symbol.asyncIterator]() {
    for (let message; (message = await this.receive()) !== null; ) yield message;
  }
}

const HEARTBEAT = Array.from("HEARTBEAT:", (character) => character.charCodeAt(0));

function isHeartbeat(bytes) {
  return (
    bytes.length === HEARTBEAT.length + 8 && HEARTBEAT.every((byte, index) => bytes[index] === byte)
  );
}
