// Deno's own WebTransport, client and server.

import { Peer, serve } from "./lines.mjs";

class Stream {
  constructor({ readable, writable }) {
    this.reader = readable?.getReader();
    this.writer = writable?.getWriter();
    this.writer?.closed.catch(() => {});
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
    return this.writer.abort(new WebTransportError("chosen", { streamErrorCode: code }));
  }

  stop(code) {
    return this.reader.cancel(new WebTransportError("chosen", { streamErrorCode: code }));
  }
}

class DenoPeer extends Peer {
  async connect({ port, path, hash, protocols }) {
    const value = Uint8Array.from(hash.match(/../g), (pair) => parseInt(pair, 16));
    this.#begin(
      new WebTransport(`https://127.0.0.1:${port}${path}`, {
        serverCertificateHashes: [{ algorithm: "sha-256", value }],
        protocols,
      }),
    );
    await this.session.ready;
  }

  async listen({ certfile, keyfile }) {
    this.endpoint = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
    this.listener = this.endpoint.listen({
      cert: await Deno.readTextFile(certfile),
      key: await Deno.readTextFile(keyfile),
      alpnProtocols: ["h3"],
    });
    return this.endpoint.addr.port;
  }

  async accept() {
    const connection = await (await this.listener.incoming()).accept();
    this.#begin(await Deno.upgradeWebTransport(connection));
    await this.session.ready;
  }

  #begin(session) {
    this.session = session;
    session.closed.catch(() => {});
    this.writer = session.datagrams.writable.getWriter();
    const each = async (readable, take) => {
      for await (const thing of readable) take(thing);
    };
    each(session.incomingBidirectionalStreams, (it) => this.arrived.false.put(new Stream(it)));
    each(session.incomingUnidirectionalStreams, (readable) =>
      this.arrived.true.put(new Stream({ readable })),
    );
    each(session.datagrams.readable, (bytes) => this.datagrams.put(bytes));
  }

  async open(unidirectional) {
    if (unidirectional) {
      return new Stream({ writable: await this.session.createUnidirectionalStream() });
    }
    return new Stream(await this.session.createBidirectionalStream());
  }

  sendDatagram(bytes) {
    return this.writer.write(bytes);
  }

  close({ code, reason }) {
    this.session.close({ closeCode: code, reason });
  }

  closed() {
    return this.session.closed;
  }

  async finish() {
    this.session.close({ closeCode: 0, reason: "" });
    await this.session.closed;
    this.endpoint?.close();
  }
}

await serve(new DenoPeer());
