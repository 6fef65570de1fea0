const value = Uint8Array.from(hash.match(/../g), (hex) => parseInt(hex, 16));
const session = new WebTransport("https://localhost:4433/", {
  serverCertificateHashes: [{ algorithm: "sha-256", value }],
});
await session.ready;

const writer = session.datagrams.writable.getWriter();
await writer.write(new TextEncoder().encode("hello"));

const reader = session.datagrams.readable.getReader();
const answer = await reader.read();
console.log(new TextDecoder().decode(answer.value)); // HELLO
