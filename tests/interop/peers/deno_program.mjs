// Deno's own WebTransport, client and server.

import { PagePeer, serve } from "./lines.mjs";

class DenoPeer extends PagePeer {
  async connect({ port, path, hash, protocols }) {
    const value = Uint8Array.from(hash.match(/../g), (pair) => parseInt(pair, 16));
    this.begin(
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
    this.begin(await Deno.upgradeWebTransport(connection));
    await this.session.ready;
  }

  chosen(code) {
    return new WebTransportError("chosen", { streamErrorCode: code });
  }

  async finish() {
    this.session.close({ closeCode: 0, reason: "" });
    await this.session.closed;
    this.endpoint?.close();
  }
}

await serve(new DenoPeer());
