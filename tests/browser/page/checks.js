// The page's half of the browser tests. Each function opens a session of its own, does one thing
// through the page API, and returns what it saw as a value that JSON can hold.

const MIB = 1 << 20;

// --- helpers ---------------------------------------------------------------------------------

const encode = (text) => new TextEncoder().encode(text);
const decode = (bytes) => new TextDecoder().decode(bytes);

function connect(target, options = {}) {
  const value = Uint8Array.from(target.hash.match(/../g), (pair) => parseInt(pair, 16));
  return new WebTransport(target.url, {
    serverCertificateHashes: [{ algorithm: "sha-256", value }],
    ...options,
  });
}

async function opened(target, options) {
  const session = connect(target, options);
  session.closed.catch(() => {});
  await session.ready;
  return session;
}

// Chromium's network process tells a page over one channel how a session ended, and lets go of it
// over another. Now and then the second comes first, and the page sees this instead.
const LOST = "Connection lost.";

async function gone(session) {
  await session.closed.catch((error) => {
    if (error.message !== LOST) throw error;
  });
}

async function ended(session) {
  session.close();
  await gone(session);
}

async function readAll(readable) {
  return new Uint8Array(await new Response(readable).arrayBuffer());
}

async function writeAll(writable, bytes) {
  const writer = writable.getWriter();
  await writer.write(bytes);
  await writer.close();
}

// The server may close the session as soon as it has these bytes; then it does not matter what
// becomes of the promises, only of the bytes, and the server looks at those.
function writeLast(writable, bytes) {
  writeAll(writable, bytes).catch(() => {});
}

// The event loop has to turn between reads or writes, or nobody hears of the end.
const turn = () => new Promise((done) => setTimeout(done));

async function writeOn(writer) {
  for (;;) {
    await writer.write(new Uint8Array(10_000));
    await turn();
  }
}

async function readToTheEnd(reader) {
  while (!(await reader.read()).done) await turn();
}

async function next(readable) {
  const reader = readable.getReader();
  const { value, done } = await reader.read();
  reader.releaseLock();
  if (done) throw new Error("the session ended");
  return value;
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function noise(size, seed) {
  const words = new Uint32Array(size / 4);
  let state = seed;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer);
}

function streamError(streamErrorCode) {
  try {
    return new WebTransportError("chosen", { streamErrorCode });
  } catch {
    // Before the message became an argument of its own.
    return new WebTransportError({ message: "chosen", streamErrorCode });
  }
}

const told = (error) => ({
  name: error.name,
  isTransportError: error instanceof WebTransportError,
  source: error.source,
  code: error.streamErrorCode,
  message: error.message,
});

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return told(error);
  }
  throw new Error("it did not fail");
}

// --- sessions --------------------------------------------------------------------------------

async function open(target, options) {
  const session = await opened(target, options);
  const facts = {
    protocol: session.protocol ?? null,
    maxDatagramSize: session.datagrams.maxDatagramSize,
  };
  await ended(session);
  return facts;
}

async function fails(target) {
  const session = connect(target);
  const [ready, closed] = await Promise.all([failure(session.ready), failure(session.closed)]);
  return { ready, closed };
}

async function closeByPage(target, info) {
  const session = await opened(target);
  session.close(info);
  const { closeCode, reason } = await session.closed;
  return { closeCode, reason };
}

async function closeBeforeReady(target) {
  const session = connect(target);
  session.closed.catch(() => {});
  session.close({ closeCode: 5, reason: "too early" });
  return failure(session.ready);
}

async function waitClosed(target, tries) {
  for (let left = tries; ; left--) {
    const session = await opened(target);
    try {
      const { closeCode, reason } = await session.closed;
      return { closeCode, reason };
    } catch (error) {
      if (left === 1 || error.message !== LOST) throw error;
    }
  }
}

async function waitLost(target) {
  const session = await opened(target);
  return failure(session.closed);
}

// Streams of both ends, all of them being written and read when the session ends: what the page
// is told of that end, and what each of its readers and writers is told. (None of the writers is
// closed: when the session ends before that is acknowledged, Chromium 156 loses the page.)
async function busyUntilTheEnd(target, count, info) {
  const session = await opened(target);
  const readers = [];
  const writers = [];
  for (let i = 0; i < count; i++) {
    const stream = await session.createBidirectionalStream();
    writers.push(failure(writeOn(stream.writable.getWriter())));
    readers.push(failure(readToTheEnd(stream.readable.getReader())));
  }
  const incoming = session.incomingUnidirectionalStreams.getReader();
  for (let i = 0; i < count; i++) {
    const { value } = await incoming.read();
    readers.push(failure(readToTheEnd(value.getReader())));
  }
  if (info) session.close(info);
  else (await session.createUnidirectionalStream()).getWriter().write(encode("ready")).catch(() => {});
  const end = await session.closed.then(
    ({ closeCode, reason }) => ({ closeCode, reason }),
    (error) => told(error),
  );
  return { end, readers: await Promise.all(readers), writers: await Promise.all(writers) };
}

async function stay(target) {
  globalThis.kept = await opened(target);
}

async function severalSessions(target, count) {
  const sessions = await Promise.all(Array.from({ length: count }, () => opened(target)));
  const answers = [];
  for (const [index, session] of sessions.entries()) {
    const stream = await session.createBidirectionalStream();
    await writeAll(stream.writable, encode(`session ${index}`));
    answers.push(decode(await readAll(stream.readable)));
  }
  await Promise.all(sessions.map(ended));
  return answers;
}

// --- streams ---------------------------------------------------------------------------------

async function bidirectionalByPage(target, text) {
  const session = await opened(target);
  const stream = await session.createBidirectionalStream();
  await writeAll(stream.writable, encode(text));
  const answer = decode(await readAll(stream.readable));
  await ended(session);
  return answer;
}

async function bidirectionalByServer(target) {
  const session = await opened(target);
  const stream = await next(session.incomingBidirectionalStreams);
  const question = decode(await readAll(stream.readable));
  writeLast(stream.writable, encode(`answer to ${question}`));
  await gone(session);
  return question;
}

async function unidirectionalByPage(target, text) {
  const session = await opened(target);
  writeLast(await session.createUnidirectionalStream(), encode(text));
  await gone(session);
}

async function unidirectionalByServer(target) {
  const session = await opened(target);
  const text = decode(await readAll(await next(session.incomingUnidirectionalStreams)));
  await ended(session);
  return text;
}

async function emptyStream(target) {
  const session = await opened(target);
  const stream = await session.createBidirectionalStream();
  await stream.writable.close();
  const answer = await readAll(stream.readable);
  await ended(session);
  return answer.length;
}

async function upload(target, size) {
  const session = await opened(target);
  const data = noise(size, 7);
  const writer = (await session.createUnidirectionalStream()).getWriter();
  for (let start = 0; start < size; start += MIB) {
    await writer.write(data.subarray(start, start + MIB));
  }
  writer.close().catch(() => {}); // as for writeLast
  await gone(session);
  return { size: data.length, sha256: await sha256(data) };
}

async function download(target) {
  const session = await opened(target);
  const data = await readAll(await next(session.incomingUnidirectionalStreams));
  await ended(session);
  return { size: data.length, sha256: await sha256(data) };
}

async function concurrentStreams(target, count) {
  const session = await opened(target);
  const exchange = async (index) => {
    const stream = await session.createBidirectionalStream();
    await writeAll(stream.writable, encode(`${index}: ${"x".repeat(index)}`));
    return decode(await readAll(stream.readable));
  };
  const answers = await Promise.all(Array.from({ length: count }, (_, index) => exchange(index)));
  await ended(session);
  return answers.filter((text, index) => text === `${index}: ${"x".repeat(index)}`).length;
}

async function concurrentStreamsOfServer(target, count) {
  const session = await opened(target);
  const texts = [];
  const reader = session.incomingUnidirectionalStreams.getReader();
  for (let i = 0; i < count; i++) {
    const { value } = await reader.read();
    texts.push(readAll(value).then(decode));
  }
  const found = new Set(await Promise.all(texts));
  await ended(session);
  return found.size;
}

// --- reset and stop codes --------------------------------------------------------------------

async function resetByPage(target, streamErrorCode) {
  const session = await opened(target);
  const stream = await session.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  await writer.write(encode("begin"));
  await next(stream.readable); // the server has it
  writer.abort(streamError(streamErrorCode)).catch(() => {});
  await gone(session);
}

async function stopByPage(target, streamErrorCode) {
  const session = await opened(target);
  const reader = (await next(session.incomingUnidirectionalStreams)).getReader();
  await reader.read();
  await reader.cancel(streamError(streamErrorCode));
  writeLast(await session.createUnidirectionalStream(), encode("cancelled"));
  await gone(session);
}

// A read waits when the reset comes.
async function resetByServer(target) {
  const session = await opened(target);
  const stream = await session.createBidirectionalStream();
  const writer = stream.writable.getWriter();
  await writer.write(encode("begin"));
  const reader = stream.readable.getReader();
  await reader.read(); // from here on the page surely listens
  const error = failure(readToTheEnd(reader));
  await writer.write(encode("seen"));
  const result = await error;
  await ended(session);
  return result;
}

// Nobody has read yet when the reset comes; the server tells of it on another stream. What it says
// there may overtake the reset on the way to the page, so there are several tries.
async function resetBeforeRead(target) {
  const session = await opened(target);
  let error;
  for (let tries = 0; tries < 30 && !error?.isTransportError; tries++) {
    const stream = await session.createBidirectionalStream();
    await writeAll(stream.writable, encode("begin"));
    await readAll(await next(session.incomingUnidirectionalStreams));
    error = await failure(readToTheEnd(stream.readable.getReader()));
  }
  await ended(session);
  return error;
}

// Chromium tells a stopped writer the code over one channel and that its pipe is closed over
// another; when the second comes first, the error has no code. So there are several tries.
async function stopByServer(target) {
  const session = await opened(target);
  let error;
  for (let tries = 0; tries < 30 && !error?.isTransportError; tries++) {
    const writer = (await session.createUnidirectionalStream()).getWriter();
    writer.write(encode("begin")).catch(() => {}); // the stop may come first
    error = await failure(writer.closed);
  }
  await ended(session);
  return error;
}

// --- datagrams -------------------------------------------------------------------------------

// Datagrams may get lost, also between the network and the page: ask again until all are back.
async function datagrams(target, count) {
  const session = await opened(target);
  const writer = session.datagrams.writable.getWriter();
  const reader = session.datagrams.readable.getReader();
  const missing = new Set(Array.from({ length: count }, (_, index) => `datagram ${index}`));
  while (missing.size) {
    const text = missing.values().next().value;
    await writer.write(encode(text));
    const { value } = await reader.read();
    missing.delete(decode(value));
  }
  await ended(session);
  return count;
}

async function largestDatagram(target) {
  const session = await opened(target);
  const size = session.datagrams.maxDatagramSize;
  const writer = session.datagrams.writable.getWriter();
  await writer.write(new Uint8Array(size).fill(7));
  const { value } = await session.datagrams.readable.getReader().read();
  await ended(session);
  return { size, echoed: value.length };
}

async function emptyDatagram(target) {
  const session = await opened(target);
  session.datagrams.writable.getWriter().write(new Uint8Array(0));
  await gone(session);
}
