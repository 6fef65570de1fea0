// @moq/web-transport, client and server: the native part of the package. (The page API that the
// package has on top of it is TypeScript, which is not read from a package, and gives no codes.)

import { createRequire } from "node:module";
import { Peer, serve } from "./lines.mjs";

const { NapiClient, NapiServer } = createRequire(Deno.cwd() + "/")(
  "./node_modules/@moq/web-transport/napi.cjs",
);

class Stream {
  constructor(send, receive) {
    this.sending = send;
    this.receiving = receive;
  }

  read() {
    return this.receiving.read(1 << 16);
  }

  write(bytes) {
    return this.sending.write(Buffer.from(bytes));
  }

  finish() {
    return this.sending.finish();
  }

  reset(code) {
    return this.sending.reset(code);
  }

  stop(code) {
    return this.receiving.stop(code);
  }
}

class MoqPeer extends Peer {
  async connect({ port, path, hash, protocols }) {
    const client = NapiClient.withCertificateHashes([Buffer.from(hash, "hex")]);
    this.#begin(await client.connect(`https://127.0.0.1:${port}${path}`, { protocols }));
  }

  async listen({ port, certfile, keyfile }) {
    const read = async (path) => Buffer.from(await Deno.readFile(path));
    this.server = NapiServer.bind(`127.0.0.1:${port}`, await read(certfile), await read(keyfile));
    return port;
  }

  async accept() {
    this.#begin(await (await this.server.accept()).ok());
  }

  #begin(session) {
    this.session = session;
    const each = async (next, take) => {
      for (;;) take(await next());
    };
    each(() => session.acceptBi(), (it) => this.arrived.false.put(new Stream(it.takeSend(), it.takeRecv())));
    each(() => session.acceptUni(), (it) => this.arrived.true.put(new Stream(null, it)));
    each(() => session.recvDatagram(), (bytes) => this.datagrams.put(bytes));
  }

  async open(unidirectional) {
    if (unidirectional) return new Stream(await this.session.openUni(), null);
    const both = await this.session.openBi();
    return new Stream(both.takeSend(), both.takeRecv());
  }

  sendDatagram(bytes) {
    this.session.sendDatagram(Buffer.from(bytes));
  }

  protocol() {
    return this.session.protocol;
  }

  close({ code, reason }) {
    this.session.close(code, reason);
  }

  closed() {
    return this.session.closed();
  }

  async finish() {
    this.session.close(0, "");
    await this.session.closed();
    this.server?.close();
  }
}

await serve(new MoqPeer());
