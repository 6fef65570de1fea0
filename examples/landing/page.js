const session = new WebTransport("https://localhost:4433/", {
  serverCertificateHashes: [
    { algorithm: "sha-256", value: Uint8Array.fromHex(hash) },
  ],
});
await session.ready;

const writer = session.datagrams.writable.getWriter();
await writer.write(new TextEncoder().encode("hello"));

const reader = session.datagrams.readable.getReader();
const { value } = await reader.read();
console.log(new TextDecoder().decode(value)); // HELLO
