// A session over WebSocket in Node: @moq/qmux of any version, or @moq/web-transport-ws, as a
// client and, where it can, as a server.
//
// The first argument is the name that the package is installed under, in the working directory.

import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createRequire } from "node:module";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { PagePeer, Queue, serve } from "./lines.mjs";

const here = createRequire(`${process.cwd()}/`);
const WebSocket = here("ws");

// What an older Node does not have.
Promise.withResolvers ??= () => {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};

let authority;
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { ca: authority });
  }
};

// Its log is not an answer.
console.log = console.warn = console.error;

const { default: Session, selectSubprotocol } = await import(
  pathToFileURL(here.resolve(process.argv[2]))
);

class QmuxPeer extends PagePeer {
  #sockets = new Queue();

  async connect({ port, path, cafile, protocols }) {
    authority = readFileSync(cafile);
    const versions = Object.fromEntries(protocols.map((name) => [name, null]));
    this.begin(new Session(`https://127.0.0.1:${port}${path}`, { protocols, versions }));
    // Old versions do not reject `ready`.
    const ended = this.session.closed.then(({ closeCode }) => {
      throw new Error(`closed before it was ready, ${closeCode}`);
    });
    ended.catch(() => {});
    await Promise.race([this.session.ready, ended]);
  }

  async listen({ certfile, keyfile, protocols, refuse }) {
    const versions = Object.fromEntries(protocols.map((name) => [name, null]));
    this.server = createServer({ cert: readFileSync(certfile), key: readFileSync(keyfile) });
    const handleProtocols = (offered) => selectSubprotocol([...offered], { protocols, versions });
    const verifyClient = (_, answer) => answer(!refuse, refuse);
    const sockets = new WebSocket.WebSocketServer({
      server: this.server,
      handleProtocols,
      verifyClient,
    });
    sockets.on("connection", (socket, request) => {
      this.request = request;
      this.#sockets.put(Session.accept(socket));
    });
    await new Promise((done) => this.server.listen(0, "127.0.0.1", done));
    return this.server.address().port;
  }

  async accept() {
    this.begin(await this.#sockets.get());
    await this.session.ready;
  }

  headers() {
    return this.request.headers;
  }

  url() {
    return this.request.url;
  }

  chosen(code) {
    return Object.assign(new Error("chosen"), { source: "stream", streamErrorCode: code });
  }

  async finish() {
    this.session?.close({ closeCode: 0, reason: "" });
    await this.session?.closed;
  }
}

await serve(new QmuxPeer());
