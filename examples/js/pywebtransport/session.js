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
 * @param {string|object} target A URL, or `{url, certificateHash, ...}`; the rest are options of
 *   the browser's `WebTransport` constructor, such as `congestionControl`.
 * @param {object} [options]
 * @param {number} [options.timeoutMs] How long it may take.
 * @param {AbortSignal} [options.signal] Gives up; the promise is rejected with its reason.
 * @returns {Promise<WebTransport>} The session, which is open.
 * @throws {ConfigurationError} The URL, the hash or an option is wrong, or the browser has no
 *   WebTransport (it has none on pages that are neither https: nor localhost).
 * @throws {ConnectionError} The session could not be opened, or not in time.
 */
export async function connect(target, { timeoutMs = 10_000, signal } = {}) {
  checkTime("timeoutMs", timeoutMs);
  const { url, certificateHash, ...native } = typeof target === "string" ? { url: target } : target;
  check(typeof url === "string", "url", url, "a string");
  if (certificateHash !== undefined && certificateHash !== null) {
    native.serverCertificateHashes = certificateHashes(certificateHash);
  }
  if (!("WebTransport" in globalThis)) {
    const where = globalThis.isSecureContext ? "this browser" : "a page that is not secure";
    throw new ConfigurationError(`there is no WebTransport in ${where}`);
  }
  let session;
  try {
    session = new WebTransport(url, native);
  } catch (cause) {
    throw new ConfigurationError(`WebTransport refuses its arguments: ${cause.message}`, { cause });
  }
  session.ready.catch(ignore);
  endOf(session);
  const late = () => new ConnectionError(`no session with ${url} within ${timeoutMs} ms`);
  const limit = new Limit(signal).within(timeoutMs, late);
  try {
    await limit.race(session.ready);
    return session;
  } catch (error) {
    session.close();
    if (limit.signal.aborted) throw error;
    const hint = "is the server running, and does it allow this page's origin?";
    const text = `no session with ${url}: ${error.message} (${hint})`;
    throw new ConnectionError(text, { cause: error });
  } finally {
    limit.end();
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
  try {
    return new WebTransportError("ended by this page", { streamErrorCode });
  } catch {
    // The form before the message became an argument of its own.
    return new WebTransportError({ message: "ended by this page", streamErrorCode });
  }
}
