// What the programs of Deno have in common: JSON, one object per line, on standard input and
// output (see process.py), and the operations that are the same for every session of the page API.

import { createHash } from "node:crypto";
import { createInterface } from "node:readline";

// The code of a stream's end stands at the end of the message.
const codeOf = (error) => {
  const found = error.message.match(/ (\d+)$/);
  if (!found) throw error;
  return Number(found[1]);
};

// What does not belong to any operation, such as a stream that dies unread, is not worth dying for.
globalThis.addEventListener("unhandledrejection", (event) => event.preventDefault());

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
    for await (const chunk of (await Deno.open(path)).readable) await stream.write(chunk);
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

export async function serve(peer) {
  const write = (answer) => Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(answer) + "\n"));
  const { stdin } = await import("node:process");
  for await (const line of createInterface({ input: stdin })) {
    const { id, op, ...given } = JSON.parse(line);
    Promise.resolve(peer[op](given)).then(
      (result) => write({ id, result: result ?? null }),
      (error) => write({ id, error: `${error.name}: ${error.message}` }),
    );
  }
  // Our end must not wait for one that has vanished.
  const patience = new Promise((done) => setTimeout(done, 2000));
  await Promise.race([peer.finish(), patience]).catch(() => {});
  Deno.exit(0);
}
