/** Sessions: opening one, and how it has ended. */

import { Limit, check, checkTime, ignore } from "./checks.js";
import { ConfigurationError, ConnectionError } from "./errors.js";
import { SessionClosedError, StreamError, TransportError } from "./errors.js";
import { asBytes, fromBase64 } from "./serializers.js";

/**
 * What the browser's `serverCertificateHashes` wants, from one hash or a list of them.
 *
 * The browser accepts a certificate with this SHA-256 if it is valid for at most 14 days and has an
 * ECDSA key; `pywebtransport.utils.generate_self_signed_cert` makes such certificates.
 *
 * @param {string|BufferSource|number[]|Array} hash 64 hexadecimal digits (colons are fine), base64,
 *   32 bytes, or an array of such hashes.
 * @returns {{algorithm: string, value: Uint8Array}[]}
 */
export function certificateHashes(hash) {
  const isList = Array.isArray(hash) && !(hash.length === 32 && hash.every(isByte));
  return (isList ? hash : [hash]).map((one) => ({ algorithm: "sha-256", value: hashBytes(one) }));
}

const isByte = (value) => Number.isInteger(value) && value >= 0 && value <= 255;

function hashBytes(hash) {
  let value = null;
  if (typeof hash === "string") {
    const hex = hash.trim().replaceAll(":", "");
    if (/^[0-9a-f]{64}$/i.test(hex)) {
      value = Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
    } else if (/^[\w+/-]{43}=?$/.test(hex)) {
      value = fromBase64(hex.replaceAll("-", "+").replaceAll("_", "/"));
    }
  } else if (Array.isArray(hash) && hash.every(isByte)) {
    value = Uint8Array.from(hash);
  } else {
    value = asBytes(hash)?.slice() ?? null;
  }
  const expected = "a SHA-256: hexadecimal, base64 or 32 bytes";
  check(value?.length === 32, "certificateHash", hash, expected);
  return value;
}

/**
 * Open a session.
 *
 * With `fallback`, the page also gets through where UDP is blocked. It is called when the browser
 * has no WebTransport, when a session fails to open, and when it is not open after
 * `fallbackAfterMs`; the attempt is given up then. What the fallback has opened is remembered: for
 * ten minutes, sessions with the same origin begin with it.
 *
 * @param {string|object} target A URL, or `{url, certificateHash, ...}`; the rest are options of
 *   the browser's `WebTransport` constructor, such as `congestionControl`.
 * @param {object} [options]
 * @param {number} [options.timeoutMs] How long it may take, the fallback included.
 * @param {AbortSignal} [options.signal] Gives up; the promise is rejected with its reason.
 * @param {function(string, object)} [options.fallback] Makes a session over TCP of a URL and the
 *   options for the constructor; may return a promise of it. Certificate hashes are left out, since
 *   browsers have them for WebTransport only.
 * @param {number} [options.fallbackAfterMs] How long the browser's WebTransport may try alone.
 * @returns {Promise<WebTransport>} The session, which is open.
 * @throws {ConfigurationError} The URL, the hash or an option is wrong, or the browser has no
 *   WebTransport (it has none on pages that are neither https: nor localhost) and there is no
 *   fallback.
 * @throws {ConnectionError} The session could not be opened, or not in time.
 */
export async function connect(
  target,
  { timeoutMs = 10_000, signal, fallback = null, fallbackAfterMs = 1500 } = {},
) {
  checkTime("timeoutMs", timeoutMs);
  checkTime("fallbackAfterMs", fallbackAfterMs);
  check(fallback === null || typeof fallback === "function", "fallback", fallback, "a function");
  const { url, certificateHash, ...rest } = typeof target === "string" ? { url: target } : target;
  check(typeof url === "string", "url", url, "a string");
  const hashes = {};
  if (certificateHash !== undefined && certificateHash !== null) {
    hashes.serverCertificateHashes = certificateHashes(certificateHash);
  }
  const has = "WebTransport" in globalThis;
  if (!has && fallback === null) {
    const where = globalThis.isSecureContext ? "this browser" : "a page that is not secure";
    throw new ConfigurationError(`there is no WebTransport in ${where}`);
  }
  const first = () => native(url, { ...rest, ...hashes });
  const late = (ms) => () => new ConnectionError(`no session with ${url} within ${ms} ms`);
  const limit = new Limit(signal).within(timeoutMs, late(timeoutMs));
  try {
    if (fallback === null) return await open(first, url, limit);
    if (has && !fallbackIsFirst(url)) {
      const alone = new Limit(limit.signal).within(fallbackAfterMs, late(fallbackAfterMs));
      try {
        return await open(first, url, alone);
      } catch (error) {
        if (limit.signal.aborted || error instanceof ConfigurationError) throw error;
      } finally {
        alone.end();
      }
    }
    fallbacks.delete(originOf(url));
    const session = await open(() => fallback(url, rest), url, limit);
    fallbacks.set(originOf(url), performance.now() + REMEMBERED_MS);
    return session;
  } finally {
    limit.end();
  }
}

// Until when the fallback goes first, for each origin where it got through.
const fallbacks = new Map();
const REMEMBERED_MS = 600_000;

const fallbackIsFirst = (url) => performance.now() < (fallbacks.get(originOf(url)) ?? 0);

function originOf(url) {
  try {
    return new URL(url).origin;
  } catch {
    return ""; // the constructor says what is wrong
  }
}

/** Make a session and wait until it is open; it is closed when that fails. */
async function open(make, url, limit) {
  const making = (async () => make())();
  try {
    const session = await limit.race(making);
    session.ready.catch(ignore);
    endOf(session);
    await limit.race(session.ready);
    return session;
  } catch (error) {
    making.then((session) => session.close(), ignore);
    if (limit.signal.aborted || error instanceof ConfigurationError) throw error;
    const hint = "is the server running, and does it allow this page's origin?";
    const text = `no session with ${url}: ${error.message} (${hint})`;
    throw new ConnectionError(text, { cause: error });
  }
}

/** A session of the browser. */
function native(url, options) {
  try {
    return new WebTransport(url, options);
  } catch (cause) {
    throw new ConfigurationError(`WebTransport refuses its arguments: ${cause.message}`, { cause });
  }
}

// How each session has ended, once it has.
const ends = new WeakMap();

/** `{error, promise}`: both are a SessionClosedError; `error` is null while the session is open. */
export function endOf(session) {
  let end = ends.get(session);
  if (end === undefined) {
    end = { error: null };
    const closed = ({ closeCode: code = 0, reason = "" } = {}) => {
      const text = `the session was closed: ${reason || `code ${code}`}`;
      return new SessionClosedError(text, { code, reason });
    };
    const lost = (cause) =>
      new SessionClosedError("the session was lost", { code: null, reason: null, cause });
    end.promise = session.closed.then(closed, lost).then((error) => (end.error = error));
    ends.set(session, end);
  }
  return end;
}

/** Turn an error of a stream into one of this module's. */
export async function explained(error, session, what) {
  if (error instanceof TransportError) return error;
  if (session) {
    // Browsers may fail the streams of a session before they say that it has ended.
    const { promise } = endOf(session);
    await Promise.race([promise, new Promise((turn) => setTimeout(turn))]);
    const end = error?.source === "session" ? await promise : endOf(session).error;
    if (end) return end;
  }
  const code = error?.streamErrorCode ?? null;
  return new StreamError(code === null ? what : `${what} (code ${code})`, { code, cause: error });
}

export function streamError(streamErrorCode) {
  if (!("WebTransportError" in globalThis)) {
    return Object.assign(new Error("ended by this page"), { source: "stream", streamErrorCode });
  }
  try {
    return new WebTransportError("ended by this page", { streamErrorCode });
  } catch {
    // The form before the message became an argument of its own.
    return new WebTransportError({ message: "ended by this page", streamErrorCode });
  }
}
