// The browser half of the demo: every check measures something and compares
// the received data with the sent data.

const OPENS = 5;
const DATAGRAMS = 100;
const PING_PONGS = 500;
const BLOCK = 1 << 18;
const MIB = 1 << 20;

const checks = [
  ["open", `session open, median of ${OPENS}`, checkOpen],
  ["datagrams", "datagram echo", checkDatagrams],
  ["bidirectional", "bidirectional stream echo", checkBidirectional],
  ["unidirectional", "unidirectional stream echo", checkUnidirectional],
  ["ping-pong", `ping-pong, ${PING_PONGS} times 64 B`, checkPingPong],
  ["upload", "upload, checksum verified", checkUpload],
  ["download", "download, checksum verified", checkDownload],
];

let config;

// --- helpers ---------------------------------------------------------------

function timeout(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function connect(path) {
  const value = Uint8Array.from(config.certificateHash.match(/../g), (pair) => parseInt(pair, 16));
  return new WebTransport(config.url + path, {
    serverCertificateHashes: [{ algorithm: "sha-256", value }],
  });
}

async function withSession(path, action) {
  const session = connect(path);
  await session.ready;
  try {
    return await action(session);
  } finally {
    session.close();
    await session.closed;
  }
}

function assertEqual(actual, expected, what) {
  if (actual !== expected) throw new Error(`${what}: expected ${expected}, got ${actual}`);
}

function median(values) {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

const milliseconds = (value) => `${value.toFixed(2)} ms`;
const encode = (text) => new TextEncoder().encode(text);

async function send(writable, data) {
  const writer = writable.getWriter();
  await writer.write(data);
  await writer.close();
}

async function readText(readable) {
  return new Response(readable).text();
}

// CRC-32 four bytes at a time (the "slicing" method): fast enough to check a
// transfer while it runs.
const crcTables = (() => {
  const tables = Array.from({ length: 4 }, () => new Uint32Array(256));
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    tables[0][n] = c;
  }
  for (let n = 0; n < 256; n++) {
    for (let t = 1; t < 4; t++) {
      const c = tables[t - 1][n];
      tables[t][n] = tables[0][c & 0xff] ^ (c >>> 8);
    }
  }
  return tables;
})();

function crc32(data, crc) {
  const [t0, t1, t2, t3] = crcTables;
  let c = ~crc;
  let i = 0;
  for (; i + 4 <= data.length; i += 4) {
    c ^= data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24);
    c = t3[c & 0xff] ^ t2[(c >>> 8) & 0xff] ^ t1[(c >>> 16) & 0xff] ^ t0[c >>> 24];
  }
  for (; i < data.length; i++) c = t0[(c ^ data[i]) & 0xff] ^ (c >>> 8);
  return ~c >>> 0;
}

// --- checks: each returns the figure to show ---------------------------------

async function checkOpen() {
  const durations = [];
  for (let n = 0; n < OPENS; n++) {
    const start = performance.now();
    await withSession("/echo", () => durations.push(performance.now() - start));
  }
  return milliseconds(median(durations));
}

function checkDatagrams() {
  return withSession("/echo", async (session) => {
    const writer = session.datagrams.writable.getWriter();
    const reader = session.datagrams.readable.getReader();
    const sentAt = new Map();
    const durations = [];
    let answered = () => {};
    const collect = (async () => {
      while (durations.length < DATAGRAMS) {
        const { value, done } = await reader.read();
        if (done) return;
        const number = new DataView(value.buffer, value.byteOffset).getUint32(0);
        assertEqual(value.length, 16, "datagram size");
        durations.push(performance.now() - sentAt.get(number));
        answered();
      }
    })();
    for (let number = 0; number < DATAGRAMS; number++) {
      const data = new Uint8Array(16);
      new DataView(data.buffer).setUint32(0, number);
      sentAt.set(number, performance.now());
      const answer = new Promise((resolve) => { answered = resolve; });
      await writer.write(data);
      // One at a time, since browsers drop datagrams that queue up; a lost one has no answer.
      await Promise.race([answer, collect, timeout(200)]);
    }
    // Datagrams may be lost: wait for the rest, but not forever.
    await Promise.race([collect, timeout(3000)]);
    if (durations.length < DATAGRAMS / 2) {
      throw new Error(`${durations.length} of ${DATAGRAMS} came back`);
    }
    return `${durations.length} of ${DATAGRAMS}, p50 ${milliseconds(median(durations))}`;
  });
}

function checkBidirectional() {
  return withSession("/echo", async (session) => {
    const message = "hello on a bidirectional stream";
    const start = performance.now();
    const stream = await session.createBidirectionalStream();
    await send(stream.writable, encode(message));
    assertEqual(await readText(stream.readable), message, "echo");
    return milliseconds(performance.now() - start);
  });
}

function checkUnidirectional() {
  return withSession("/echo", async (session) => {
    const message = "hello on a unidirectional stream";
    const start = performance.now();
    await send(await session.createUnidirectionalStream(), encode(message));
    const incoming = session.incomingUnidirectionalStreams.getReader();
    const { value } = await incoming.read();
    assertEqual(await readText(value), message, "echo");
    return milliseconds(performance.now() - start);
  });
}

function checkPingPong() {
  return withSession("/echo", async (session) => {
    const stream = await session.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    const reader = stream.readable.getReader();
    const message = new Uint8Array(64).map((_, index) => index);
    const start = performance.now();
    for (let n = 0; n < PING_PONGS; n++) {
      await writer.write(message);
      for (let received = 0; received < message.length;) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the stream ended early");
        for (const byte of value) assertEqual(byte, message[received++], "byte");
      }
    }
    const seconds = (performance.now() - start) / 1000;
    await writer.close();
    return `${Math.round(PING_PONGS / seconds)} /s`;
  });
}

function checkUpload(onProgress) {
  return withSession("/upload", async (session) => {
    const size = config.size;
    const block = new Uint8Array(BLOCK);
    crypto.getRandomValues(block.subarray(0, 65536));
    const stream = await session.createBidirectionalStream();
    const writer = stream.writable.getWriter();
    const start = performance.now();
    let crc = 0;
    for (let sent = 0; sent < size;) {
      const chunk = block.slice(0, Math.min(BLOCK, size - sent));
      crc = crc32(chunk, crc);
      await writer.ready;
      writer.write(chunk);
      sent += chunk.length;
      onProgress(sent / size);
    }
    await writer.close();
    const answer = JSON.parse(await readText(stream.readable));
    const seconds = (performance.now() - start) / 1000;
    assertEqual(answer.bytes, size, "bytes");
    assertEqual(answer.crc32, crc, "checksum");
    return `${(size / MIB).toFixed(0)} MiB, ${(size / MIB / seconds).toFixed(0)} MiB/s`;
  });
}

function checkDownload(onProgress) {
  return withSession("/download", async (session) => {
    const size = config.size;
    const stream = await session.createBidirectionalStream();
    const start = performance.now();
    await send(stream.writable, encode(JSON.stringify({ bytes: size })));
    const reader = stream.readable.getReader();
    const tail = [];
    let received = 0;
    let crc = 0;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const body = value.subarray(0, Math.max(0, size - received));
      tail.push(...value.subarray(body.length));
      crc = crc32(body, crc);
      received += body.length;
      onProgress(received / size);
    }
    const seconds = (performance.now() - start) / 1000;
    assertEqual(received, size, "bytes");
    const expected = new DataView(Uint8Array.from(tail).buffer).getUint32(0);
    assertEqual(crc, expected, "checksum");
    return `${(size / MIB).toFixed(0)} MiB, ${(size / MIB / seconds).toFixed(0)} MiB/s`;
  });
}

// --- page --------------------------------------------------------------------

function addRow(title) {
  const row = document.createElement("li");
  const mark = document.createElement("span");
  const label = document.createElement("span");
  const figure = document.createElement("span");
  mark.className = "mark";
  label.textContent = title;
  figure.className = "figure";
  row.append(mark, label, figure);
  document.getElementById("checks").append(row);
  return { row, figure };
}

function progressOf(row) {
  let bar = null;
  return (fraction) => {
    if (bar === null) {
      bar = document.createElement("progress");
      row.append(bar);
    }
    bar.value = fraction;
  };
}

async function runAll() {
  const again = document.getElementById("again");
  const summary = document.getElementById("summary");
  again.disabled = true;
  summary.className = "";
  summary.textContent = "running\u2026";
  document.getElementById("checks").replaceChildren();
  const rows = checks.map(([, title]) => addRow(title));
  const results = [];
  for (const [index, [name, , action]] of checks.entries()) {
    const { row, figure } = rows[index];
    row.className = "running";
    try {
      figure.textContent = await action(progressOf(row));
      row.className = "passed";
      results.push({ name, passed: true, figure: figure.textContent });
    } catch (error) {
      figure.textContent = String(error);
      row.className = "failed";
      results.push({ name, passed: false, figure: String(error) });
    }
    row.querySelector("progress")?.remove();
  }
  const failed = results.filter((result) => !result.passed).length;
  summary.className = failed ? "failed" : "passed";
  summary.textContent = failed
    ? `${failed} of ${results.length} checks failed`
    : `all ${results.length} checks passed`;
  again.disabled = false;
  await fetch("report", { method: "POST", body: JSON.stringify(results) });
}

async function main() {
  config = await (await fetch("config.json")).json();
  document.getElementById("url").textContent = config.url;
  document.getElementById("again").addEventListener("click", runAll);
  if (typeof WebTransport === "undefined") {
    const results = checks.map(([name]) => ({
      name, passed: false, figure: "this browser has no WebTransport",
    }));
    document.getElementById("summary").textContent = results[0].figure;
    await fetch("report", { method: "POST", body: JSON.stringify(results) });
    return;
  }
  await runAll();
}

main();
