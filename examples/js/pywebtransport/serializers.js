/** Values as bytes: JSON and MessagePack. */

import { MAX_LENGTH, checkInteger } from "./checks.js";
import { SerializationError } from "./errors.js";

const utf8 = new TextEncoder();
// A byte order mark is a character like any other here.
const text8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The bytes of a buffer or a view of one, not copied; undefined for anything else. */
export function asBytes(value) {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (!ArrayBuffer.isView(value)) return undefined;
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

/** Bytes as base64, the form of `bytes` in JSON. */
export function toBase64(bytes) {
  let text = "";
  const view = asBytes(bytes);
  for (let at = 0; at < view.length; at += 8192) {
    text += String.fromCharCode(...view.subarray(at, at + 8192));
  }
  return btoa(text);
}

/** The bytes of a base64 string: what a message in JSON has for `bytes`. */
export function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch (cause) {
    throw new SerializationError("this is not base64", { cause });
  }
}

function checkSize(size, maxSize) {
  if (size > maxSize) {
    throw new SerializationError(`a message of ${size} bytes is larger than ${maxSize}`, {
      size,
      maxSize,
    });
  }
}

function checkText(text) {
  if (text.isWellFormed && !text.isWellFormed()) {
    throw new SerializationError("a string has half of a surrogate pair, which UTF-8 cannot hold");
  }
}

const isInteger = /^-?\d+$/;
// Only texts with so many digits in a row can have an integer that a number cannot hold.
const longInteger = /\d{16}/;

/**
 * JSON, as `pywebtransport.serializer.JSONSerializer` reads and writes it.
 *
 * Writes binary data as base64, a `Date` as ISO 8601, a `Set` as an array, a `Map` with strings or
 * numbers as keys as an object, and a `BigInt` as an integer. Members that are undefined are left
 * out. NaN, Infinity, functions, symbols, and undefined in an array throw `SerializationError`.
 * Reads an integer beyond `Number.MAX_SAFE_INTEGER` as a `BigInt`.
 */
export class JSONSerializer {
  #maxSize;

  /** @param {{maxSize?: number}} [options] The largest message in bytes, both ways. */
  constructor({ maxSize = 4 * 1024 * 1024 } = {}) {
    checkInteger("maxSize", maxSize, 1, MAX_LENGTH);
    this.#maxSize = maxSize;
  }

  /** @returns {Uint8Array} */
  encode(value) {
    let text;
    try {
      text = JSON.stringify(value, plain);
    } catch (cause) {
      if (cause instanceof SerializationError) throw cause;
      throw new SerializationError(`this has no form in JSON: ${cause.message}`, { cause });
    }
    if (text === undefined) throw new SerializationError("undefined has no form in JSON");
    const bytes = utf8.encode(text);
    checkSize(bytes.length, this.#maxSize);
    return bytes;
  }

  decode(bytes) {
    checkSize(bytes.length, this.#maxSize);
    try {
      const text = text8.decode(bytes);
      return longInteger.test(text) ? JSON.parse(text, exact) : JSON.parse(text);
    } catch (cause) {
      throw new SerializationError(`malformed JSON: ${cause.message}`, { cause });
    }
  }
}

/** What JSON.stringify asks for each member. */
function plain(key, value) {
  checkText(key);
  switch (typeof value) {
    case "string":
      checkText(value);
      return value;
    case "number":
      if (Number.isFinite(value)) return value;
      throw new SerializationError(`${value} has no form in JSON`);
    case "bigint":
      if (JSON.rawJSON) return JSON.rawJSON(value.toString());
      if (Number.isSafeInteger(Number(value))) return Number(value);
      throw new SerializationError("this browser cannot write large integers as JSON");
    case "undefined":
      if (!Array.isArray(this)) return value;
    // falls through
    case "function":
    case "symbol":
      throw new SerializationError(`a value of type ${typeof value} has no form in JSON`);
  }
  const bytes = asBytes(value);
  if (bytes) return toBase64(bytes);
  if (value instanceof Set) return [...value];
  if (value instanceof Map) return objectOf(value);
  return value;
}

function objectOf(map) {
  for (const key of map.keys()) {
    if (typeof key !== "string" && !Number.isFinite(key)) {
      throw new SerializationError("the keys of a Map in JSON must be strings or numbers");
    }
  }
  return Object.fromEntries(map);
}

/** What JSON.parse asks for each member; `source` is its text, in browsers that tell. */
function exact(key, value, context) {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source;
  return source !== undefined && isInteger.test(source) ? BigInt(source) : value;
}

/**
 * MessagePack, as `pywebtransport.serializer.MsgPackSerializer` reads and writes it.
 *
 * Writes binary data as such, an integer as an integer, any other number as a float of 64 bits, a
 * `BigInt` of up to 64 bits, a `Date` as ISO 8601, a `Set` as an array, and a `Map` as a map with
 * keys of any kind. Reads an integer beyond `Number.MAX_SAFE_INTEGER` as a `BigInt`, a timestamp as
 * a `Date`, binary data as a `Uint8Array`, and a map with other keys than strings as a `Map`.
 */
export class MsgPackSerializer {
  #maxSize;
  #maxDepth;

  /**
   * @param {object} [options]
   * @param {number} [options.maxSize] The largest message in bytes, both ways.
   * @param {number} [options.maxDepth] The most nested levels, both ways.
   */
  constructor({ maxSize = 4 * 1024 * 1024, maxDepth = 64 } = {}) {
    checkInteger("maxSize", maxSize, 1, MAX_LENGTH);
    checkInteger("maxDepth", maxDepth, 1, 200);
    this.#maxSize = maxSize;
    this.#maxDepth = maxDepth;
  }

  /** @returns {Uint8Array} */
  encode(value) {
    const packer = new Packer(this.#maxSize);
    packer.write(value, this.#maxDepth);
    return packer.bytes();
  }

  decode(bytes) {
    checkSize(bytes.length, this.#maxSize);
    const unpacker = new Unpacker(bytes);
    const value = unpacker.read(this.#maxDepth);
    unpacker.checkEnd();
    return value;
  }
}

const TOO_DEEP = "the message nests too deeply, or contains itself";

class Packer {
  #maxSize;
  #buffer = new Uint8Array(256);
  #view = new DataView(this.#buffer.buffer);
  #length = 0;

  constructor(maxSize) {
    this.#maxSize = maxSize;
  }

  bytes() {
    return this.#buffer.slice(0, this.#length);
  }

  write(value, depth) {
    switch (typeof value) {
      case "string":
        checkText(value);
        return this.#sized(utf8.encode(value), 0xa0, 31, [0xd9, 0xda, 0xdb]);
      case "number":
        if (Number.isSafeInteger(value) && !Object.is(value, -0)) return this.#integer(value);
        return this.#number(0xcb, 8, "setFloat64", value);
      case "bigint":
        return this.#large(value);
      case "boolean":
        return this.#byte(value ? 0xc3 : 0xc2);
      case "object":
        return value === null ? this.#byte(0xc0) : this.#object(value, depth);
    }
    throw new SerializationError(`a value of type ${typeof value} has no form in MessagePack`);
  }

  #object(value, depth) {
    const bytes = asBytes(value);
    if (bytes) return this.#sized(bytes, 0, -1, [0xc4, 0xc5, 0xc6]);
    if (typeof value.toJSON === "function") return this.write(value.toJSON(), depth);
    if (depth === 0) throw new SerializationError(TOO_DEEP);
    if (value instanceof Set) value = [...value];
    if (Array.isArray(value)) {
      this.#head(value.length, 0x90, 15, [null, 0xdc, 0xdd]);
      for (const item of value) this.write(item, depth - 1);
      return;
    }
    const isMap = value instanceof Map;
    const isGiven = ([, item]) => item !== undefined;
    const members = isMap ? [...value] : Object.entries(value).filter(isGiven);
    this.#head(members.length, 0x80, 15, [null, 0xde, 0xdf]);
    for (const [key, item] of members) {
      this.write(key, depth - 1);
      this.write(item, depth - 1);
    }
  }

  #integer(value) {
    if (value >= -32 && value <= 127) return this.#byte(value & 0xff);
    if (value >= 0) {
      if (value < 2 ** 8) return this.#number(0xcc, 1, "setUint8", value);
      if (value < 2 ** 16) return this.#number(0xcd, 2, "setUint16", value);
      if (value < 2 ** 32) return this.#number(0xce, 4, "setUint32", value);
    } else {
      if (value >= -(2 ** 7)) return this.#number(0xd0, 1, "setInt8", value);
      if (value >= -(2 ** 15)) return this.#number(0xd1, 2, "setInt16", value);
      if (value >= -(2 ** 31)) return this.#number(0xd2, 4, "setInt32", value);
    }
    this.#large(BigInt(value));
  }

  #large(value) {
    if (Number.isSafeInteger(Number(value)) && Math.abs(Number(value)) < 2 ** 31) {
      return this.#integer(Number(value));
    }
    if (value >= 0n && value < 2n ** 64n) return this.#number(0xcf, 8, "setBigUint64", value);
    if (value < 0n && value >= -(2n ** 63n)) return this.#number(0xd3, 8, "setBigInt64", value);
    throw new SerializationError("an integer of more than 64 bits has no form in MessagePack");
  }

  /** Head and content of a string or of binary data. */
  #sized(bytes, short, shortest, heads) {
    this.#head(bytes.length, short, shortest, heads);
    const at = this.#room(bytes.length);
    this.#buffer.set(bytes, at);
  }

  /** The first bytes of a value with a length: one byte up to `shortest`, else 1, 2 or 4 more. */
  #head(length, short, shortest, [byte, word, long]) {
    if (length <= shortest) return this.#byte(short | length);
    if (byte !== null && length < 2 ** 8) return this.#number(byte, 1, "setUint8", length);
    if (length < 2 ** 16) return this.#number(word, 2, "setUint16", length);
    this.#number(long, 4, "setUint32", length);
  }

  #byte(value) {
    const at = this.#room(1);
    this.#buffer[at] = value;
  }

  #number(head, size, setter, value) {
    const at = this.#room(1 + size);
    this.#buffer[at] = head;
    this.#view[setter](at + 1, value);
  }

  #room(size) {
    const at = this.#length;
    const needed = at + size;
    checkSize(needed, this.#maxSize);
    if (needed > this.#buffer.length) {
      const larger = new Uint8Array(Math.max(needed, 2 * this.#buffer.length));
      larger.set(this.#buffer);
      this.#buffer = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#length = needed;
    return at;
  }
}

class Unpacker {
  #bytes;
  #view;
  #at = 0;

  constructor(bytes) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  checkEnd() {
    const left = this.#bytes.length - this.#at;
    if (left > 0) throw new SerializationError(`malformed MessagePack: ${left} bytes too many`);
  }

  read(depth) {
    const head = this.#number("getUint8", 1);
    if (head < 0x80) return head;
    if (head < 0x90) return this.#map(head & 0x0f, depth);
    if (head < 0xa0) return this.#array(head & 0x0f, depth);
    if (head < 0xc0) return this.#text(head & 0x1f);
    if (head >= 0xe0) return head - 256;
    switch (head) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.#take(this.#number("getUint8", 1)).slice();
      case 0xc5:
        return this.#take(this.#number("getUint16", 2)).slice();
      case 0xc6:
        return this.#take(this.#number("getUint32", 4)).slice();
      case 0xc7:
        return this.#extension(this.#number("getUint8", 1));
      case 0xca:
        return this.#number("getFloat32", 4);
      case 0xcb:
        return this.#number("getFloat64", 8);
      case 0xcc:
        return this.#number("getUint8", 1);
      case 0xcd:
        return this.#number("getUint16", 2);
      case 0xce:
        return this.#number("getUint32", 4);
      case 0xcf:
        return small(this.#number("getBigUint64", 8));
      case 0xd0:
        return this.#number("getInt8", 1);
      case 0xd1:
        return this.#number("getInt16", 2);
      case 0xd2:
        return this.#number("getInt32", 4);
      case 0xd3:
        return small(this.#number("getBigInt64", 8));
      case 0xd6:
        return this.#extension(4);
      case 0xd7:
        return this.#extension(8);
      case 0xd9:
        return this.#text(this.#number("getUint8", 1));
      case 0xda:
        return this.#text(this.#number("getUint16", 2));
      case 0xdb:
        return this.#text(this.#number("getUint32", 4));
      case 0xdc:
        return this.#array(this.#number("getUint16", 2), depth);
      case 0xdd:
        return this.#array(this.#number("getUint32", 4), depth);
      case 0xde:
        return this.#map(this.#number("getUint16", 2), depth);
      case 0xdf:
        return this.#map(this.#number("getUint32", 4), depth);
    }
    throw new SerializationError(`malformed MessagePack: unknown type 0x${head.toString(16)}`);
  }

  #take(size) {
    const end = this.#at + size;
    if (end > this.#bytes.length) {
      throw new SerializationError("malformed MessagePack: it ends within a value");
    }
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  #number(getter, size) {
    const at = this.#at;
    this.#take(size);
    return this.#view[getter](at);
  }

  #text(size) {
    try {
      return text8.decode(this.#take(size));
    } catch (cause) {
      if (cause instanceof SerializationError) throw cause;
      throw new SerializationError("malformed MessagePack: a string is not UTF-8", { cause });
    }
  }

  /** Check what a head claims: each item takes at least a byte. */
  #claim(items, depth) {
    if (depth === 0) throw new SerializationError(TOO_DEEP);
    if (items > this.#bytes.length - this.#at) {
      throw new SerializationError("malformed MessagePack: it ends within a value");
    }
  }

  #array(length, depth) {
    this.#claim(length, depth);
    const items = [];
    for (let count = 0; count < length; count++) items.push(this.read(depth - 1));
    return items;
  }

  #map(length, depth) {
    this.#claim(2 * length, depth);
    const members = [];
    let named = true;
    for (let count = 0; count < length; count++) {
      const key = this.read(depth - 1);
      named &&= typeof key === "string";
      members.push([key, this.read(depth - 1)]);
    }
    return named ? Object.fromEntries(members) : new Map(members);
  }

  #extension(size) {
    const type = this.#number("getInt8", 1);
    const at = this.#at;
    this.#take(size);
    if (type !== -1 || ![4, 8, 12].includes(size)) {
      throw new SerializationError(`extension type ${type} of ${size} bytes is not known`);
    }
    let seconds;
    let nanoseconds = 0;
    if (size === 4) {
      seconds = this.#view.getUint32(at);
    } else if (size === 8) {
      const both = this.#view.getBigUint64(at);
      nanoseconds = Number(both >> 34n);
      seconds = Number(both & (2n ** 34n - 1n));
    } else {
      nanoseconds = this.#view.getUint32(at);
      seconds = Number(this.#view.getBigInt64(at + 4));
    }
    return new Date(seconds * 1000 + nanoseconds / 1e6);
  }
}

/** A number if it can hold the integer, otherwise the BigInt. */
function small(value) {
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}
