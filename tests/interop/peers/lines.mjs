// What the programs of Deno and Node have in common: JSON, one object per line, on standard input
// and output (see process.py), and the operations that are the same for every session of the page
// API.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";

// The code of a stream's end is a field, or stands at the end of the message.
const codeOf = (error) => {
  if (typeof error.streamErrorCode === "number") return error.streamErrorCode;
  const found = error.message.match(/ (\d+)$/);
  if (!found) throw error;
  return Number(found[1]);
};

// What does not belong to any operation, such as a stream that dies unread, is not worth dying for.
process.on("unhandledRejection", () => {});

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));

// A stream as the operations see it: `read` gives bytes, or null at the end.
export class Streams {
  #streams = [];

  add(stream) {
    return this.#streams.push(stream) - 1;
  }

  get(number) {
    return this.#streams[number];
  }
}

// Things that come, for those who ask for them.
export class Queue {
  #things = [];
  #waiting = [];

  put(thing) {
    const next = this.#waiting.shift();
    if (next) next(thing);
    else this.#things.push(thing);
  }

  get() {
    if (this.#things.length) return Promise.resolve(this.#things.shift());
    return new Promise((done) => this.#waiting.push(done));
  }
}

// The operations of a peer. Its subclass has the session: `connect`, `listen`, `accept`, `open`,
// `sendDatagram`, `close`, `closed`, and puts what arrives into `arrived` and `datagrams`.
export class Peer {
  streams = new Streams();
  arrived = { false: new Queue(), true: new Queue() };
  datagrams = new Queue();

  async open_stream({ unidirectional }) {
    return this.streams.add(await this.open(unidirectional));
  }

  async accept_stream({ unidirectional }) {
    return this.streams.add(await this.arrived[unidirectional].get());
  }

  async send({ stream_id, data, fin }) {
    const stream = this.streams.get(stream_id);
    if (data) await stream.write(unhex(data));
    if (fin) await stream.finish();
  }

  async send_file({ stream_id, path }) {
    const stream = this.streams.get(stream_id);
    for await (const chunk of createReadStream(path)) await stream.write(chunk);
    await stream.finish();
  }

  async receive({ stream_id }) {
    const stream = this.streams.get(stream_id);
    const hash = createHash("sha256");
    let size = 0;
    for (let chunk; (chunk = await stream.read()); size += chunk.length) hash.update(chunk);
    return [size, hash.digest("hex")];
  }

  async reset({ stream_id, code }) {
    await this.streams.get(stream_id).reset(code);
  }

  async stop({ stream_id, code }) {
    await this.streams.get(stream_id).stop(code);
  }

  async was_reset({ stream_id }) {
    const stream = this.streams.get(stream_id);
    try {
      while (await stream.read());
    } catch (error) {
      return codeOf(error);
    }
    throw new Error("the stream ended without a reset");
  }

  async was_stopped({ stream_id }) {
    const stream = this.streams.get(stream_id);
    try {
      for (;;) await stream.write(new Uint8Array(1000));
    } catch (error) {
      return codeOf(error);
    }
  }

  async send_datagram({ data }) {
    await this.sendDatagram(unhex(data));
  }

  async receive_datagram() {
    return hex(await this.datagrams.get());
  }

  async was_closed() {
    const { closeCode, reason } = await this.closed();
    return [closeCode, reason];
  }
}

// A stream of the page API.
class PageStream {
  constructor({ readable, writable }, chosen) {
    this.reader = readable?.getReader();
    this.writer = writable?.getWriter();
    this.writer?.closed.catch(() => {});
    this.chosen = chosen;
  }

  async read() {
    const { value, done } = await this.reader.read();
    return done ? null : value;
  }

  write(bytes) {
    return this.writer.write(bytes);
  }

  finish() {
    return this.writer.close();
  }

  reset(code) {
    return this.writer.abort(this.chosen(code));
  }

  stop(code) {
    return this.reader.cancel(this.chosen(code));
  }
}

// The operations of a peer whose session is that of the page API. Its subclass gives the session
// to `begin`, and has `chosen(code)`: the error that carries the code of a reset or a stop.
export class PagePeer extends Peer {
  begin(session) {
    this.session = session;
    session.closed.catch(() => {});
    this.writer = session.datagrams.writable.getWriter();
    const each = async (readable, take) => {
      for await (const thing of readable) take(thing);
    };
    each(session.incomingBidirectionalStreams, (it) => this.arrived.false.put(this.#stream(it)));
    each(session.incomingUnidirectionalStreams, (readable) =>
      this.arrived.true.put(this.#stream({ readable })),
    );
    each(session.datagrams.readable, (bytes) => this.datagrams.put(bytes));
  }

  #stream(halves) {
    return new PageStream(halves, (code) => this.chosen(code));
  }

  async open(unidirectional) {
    if (unidirectional) {
      return this.#stream({ writable: await this.session.createUnidirectionalStream() });
    }
    return this.#stream(await this.session.createBidirectionalStream());
  }

  sendDatagram(bytes) {
    return this.writer.write(bytes);
  }

  protocol() {
    return this.session.protocol;
  }

  close({ code, reason }) {
    this.session.close({ closeCode: code, reason });
  }

  closed() {
    return this.session.closed;
  }
}

export async function serve(peer) {
  const write = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, op, ...given } = JSON.parse(line);
    Promise.resolve(peer[op](given)).then(
      (result) => write({ id, result: result ?? null }),
      (error) => write({ id, error: `${error.name}: ${error.message}` }),
    );
  }
  // Our end must not wait for one that has vanished.
  const patience = new Promise((done) => setTimeout(done, 2000));
  await Promise.race([peer.finish(), patience]).catch(() => {});
  process.exit(0);
}
