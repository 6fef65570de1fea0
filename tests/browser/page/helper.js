// The page's half of the tests of examples/js/pywebtransport.js. Each function uses it for one thing
// and returns what it saw as a value that JSON can hold.

import * as library from "/js/pywebtransport.js";

const {
  JSONSerializer,
  MsgPackSerializer,
  PubSub,
  Reconnecting,
  Rpc,
  RpcError,
  StructuredDatagrams,
  StructuredStream,
  certificateHashes,
  connect,
} = library;

// --- helpers ---------------------------------------------------------------------------------

const serializers = {
  json: () => new JSONSerializer(),
  msgpack: () => new MsgPackSerializer(),
};

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));

// A value with the type of each of its parts: what JSON alone would not tell.
function shown(value) {
  if (typeof value === "bigint") return { bigint: String(value) };
  if (typeof value === "number") {
    const usual = Number.isFinite(value) && !Object.is(value, -0);
    return usual ? value : { number: Object.is(value, -0) ? "-0" : String(value) };
  }
  if (value instanceof Uint8Array) return { bytes: hex(value) };
  if (value instanceof Date) return { date: value.toISOString() };
  if (value instanceof Map) return { map: [...value].map(([key, item]) => [shown(key), shown(item)]) };
  if (Array.isArray(value)) return value.map(shown);
  if (value === null || typeof value !== "object") return value;
  return { object: Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shown(item)])) };
}

function told(error) {
  const { name, message, code, data, size, maxSize, remote, reason, field } = error;
  const facts = { name, message, code, data, size, maxSize, remote, reason, field };
  return { ...facts, ours: error instanceof library.TransportError };
}

async function failure(work) {
  try {
    await (typeof work === "function" ? work() : work);
  } catch (error) {
    return told(error);
  }
  throw new Error("it did not fail");
}

async function withSession(target, work) {
  const session = await connect({ url: target.url, certificateHash: target.hash });
  try {
    return await work(session);
  } finally {
    session.close();
  }
}

// --- sessions --------------------------------------------------------------------------------

async function hashes(target) {
  const bytes = unhex(target.hash);
  const base64 = btoa(String.fromCharCode(...bytes));
  const forms = {
    hex: target.hash,
    colons: target.hash.toUpperCase().match(/../g).join(":"),
    base64,
    base64url: base64.replaceAll("+", "-").replaceAll("/", "_").replace("=", ""),
    bytes,
    buffer: bytes.buffer,
    numbers: Array.from(bytes),
    list: ["00".repeat(32), target.hash],
  };
  const opened = [];
  for (const [name, certificateHash] of Object.entries(forms)) {
    const session = await connect({ url: target.url, certificateHash });
    session.close();
    opened.push(name);
  }
  return opened;
}

async function wrongArguments(target) {
  const hash = target.hash;
  const stream = { readable: new ReadableStream(), writable: new WritableStream() };
  const types = { A: 1, B: 1 };
  return {
    hash: await failure(() => certificateHashes("5f1c")),
    shortHash: await failure(() => certificateHashes([1, 2, 3])),
    url: await failure(() => connect("nowhere")),
    fragment: await failure(() => connect({ url: `${target.url}#part`, certificateHash: hash })),
    number: await failure(() => connect(7)),
    time: await failure(() => connect(target.url, { timeoutMs: -1 })),
    stream: await failure(() => new StructuredStream({})),
    types: await failure(() => new StructuredStream(stream, { types })),
    size: await failure(() => new StructuredStream(stream, { maxMessageSize: 0 })),
    serializer: await failure(() => new StructuredStream(stream, { serializer: 1 })),
    delay: await failure(() => new Reconnecting(target.url, { minDelayMs: 0 })),
  };
}

const notOpened = ({ url, hash }, options) =>
  failure(connect({ url, certificateHash: hash }, options));

async function givenUp({ url, hash }) {
  const controller = new AbortController();
  const opening = failure(connect({ url, certificateHash: hash }, { signal: controller.signal }));
  controller.abort(new Error("the user left"));
  return await opening;
}

// --- messages --------------------------------------------------------------------------------

async function echoed(target, format, value) {
  return await withSession(target, async (session) => {
    const stream = await session.createBidirectionalStream();
    const serializer = serializers[format]();
    const types = { Everything: 1, Other: 2 };
    const messages = new StructuredStream(stream, { serializer, types, session });
    await messages.send("Everything", eval(`(${value})`));
    await messages.close();
    const seen = [];
    for await (const message of messages) seen.push({ ...message, value: shown(message.value) });
    return seen;
  });
}

// Messages and failures of a stream of the server, until three failures in a row, or the end.
async function received(target, options = {}) {
  return await withSession(target, async (session) => {
    const { value } = await session.incomingUnidirectionalStreams.getReader().read();
    const messages = new StructuredStream(value, { session, ...options });
    await session.datagrams.writable.getWriter().write(new Uint8Array(1));
    const seen = [];
    for (let failures = 0; failures < 3; ) {
      try {
        const message = await messages.receive();
        seen.push(message);
        if (message === null) break;
        failures = 0;
      } catch (error) {
        seen.push(told(error));
        failures += 1;
      }
    }
    return seen;
  });
}

async function manyAtOnce(target, count) {
  return await withSession(target, async (session) => {
    const messages = new StructuredStream(await session.createBidirectionalStream(), { session });
    const sizes = Array.from({ length: count }, (_, index) => (index * 7919) % 40_000);
    const sending = sizes.map((size, index) => messages.send(index, "x".repeat(size)));
    const receiving = sizes.map(() => messages.receive());
    await Promise.all(sending);
    const answers = await Promise.all(receiving);
    return answers.every(({ type, value }, index) => type === index && value.length === sizes[index]);
  });
}

async function notSent(target) {
  return await withSession(target, async (session) => {
    const stream = await session.createBidirectionalStream();
    const messages = new StructuredStream(stream, { types: { Text: 1 }, maxMessageSize: 100, session });
    const errors = [
      await failure(messages.send("Text", "x".repeat(99))),
      await failure(messages.send("Other", "x")),
      await failure(messages.send("Text", NaN)),
    ];
    await messages.send("Text", "still works");
    await messages.close();
    const { value } = await messages.receive();
    return { errors, value };
  });
}

async function stoppedWriter(target) {
  return await withSession(target, async (session) => {
    const stream = await session.createUnidirectionalStream();
    const messages = new StructuredStream(stream, { session });
    return await failure(async () => {
      for (;;) await messages.send(1, "x".repeat(10_000));
    });
  });
}

async function datagrams(target, format) {
  return await withSession(target, async (session) => {
    const types = { Position: 1, Large: 2 };
    const serializer = serializers[format]();
    const messages = new StructuredDatagrams(session, { serializer, types });
    const tooLarge = await failure(messages.send("Large", "x".repeat(2000)));
    const seen = [];
    // A lost one is sent again.
    const timer = setInterval(() => messages.send("Position", { x: 1.5, y: -2, tag: "é" }), 50);
    await messages.send("Position", { x: 1.5, y: -2, tag: "é" });
    for await (const message of messages) {
      seen.push(message);
      if (message.value.last) break;
    }
    clearInterval(timer);
    return { tooLarge, seen };
  });
}

async function datagramsUntilTheEnd(target) {
  const session = await connect({ url: target.url, certificateHash: target.hash });
  const messages = new StructuredDatagrams(session);
  await messages.send(1, "end it");
  for await (const message of messages) throw new Error(`unexpected ${message}`);
  return await failure(messages.send(1, "too late"));
}

// --- serializers -----------------------------------------------------------------------------

function decoded(_, format, payloads) {
  return payloads.map((payload) => {
    try {
      return shown(serializers[format]().decode(unhex(payload)));
    } catch (error) {
      return told(error).name;
    }
  });
}

function encoded(_, format, values) {
  return values.map((value) => {
    try {
      return hex(serializers[format]().encode(eval(`(${value})`)));
    } catch (error) {
      return told(error).name;
    }
  });
}

function roundTrips(_, format, values) {
  return values.filter((value) => {
    const serializer = serializers[format]();
    const one = eval(`(${value})`);
    const other = serializer.decode(serializer.encode(one));
    return JSON.stringify(shown(one)) !== JSON.stringify(shown(other));
  });
}

// --- remote calls ----------------------------------------------------------------------------

const calls = {};

async function openRpc(target, format = "json", options = {}) {
  const session = await connect({ url: target.url, certificateHash: target.hash });
  const methods = {
    double: (number) => 2 * number,
    named: (first, { named, metadata }) => [first, named, metadata],
    refuse: (data) => {
      throw new RpcError("not today", { code: 7, data });
    },
    cyclic: () => {
      const loop = [];
      loop.push(loop);
      return loop;
    },
    never: () => new Promise(() => {}),
    wait: (text, { signal }) =>
      new Promise(() => {
        signal.addEventListener("abort", () => calls.rpc.notify("gone", [text]));
        calls.rpc.notify("waiting", [text]);
      }),
  };
  calls.rpc = new Rpc(session, { serializer: serializers[format](), methods, ...options });
}

const call = (_, method, params, options) => calls.rpc.call(method, params, options);
const callFails = (_, method, params, options) => failure(calls.rpc.call(method, params, options));
const notify = (_, method, params, options) => calls.rpc.notify(method, params, options);

async function callAll(_, method, count) {
  const all = Array.from({ length: count }, (_, index) => calls.rpc.call(method, [index]));
  return await Promise.all(all);
}

async function callTypes() {
  return shown(await calls.rpc.call("types", [new Uint8Array([0, 255]), 2n ** 60n, 0.5, "é"]));
}

function begin(_, method, params) {
  calls.controller = new AbortController();
  const options = { signal: calls.controller.signal };
  calls.pending = failure(calls.rpc.call(method, params, options));
  calls.pending.catch(() => {});
}

const ended = () => calls.rpc.session.closed.catch(() => {}).then(() => true);

async function abort() {
  calls.controller.abort(new Error("changed my mind"));
  return await calls.pending;
}

async function closeRpc() {
  calls.rpc.close();
  return { pending: await calls.pending, after: await failure(calls.rpc.call("add", [1, 2])) };
}

const pendingCall = () => calls.pending;

// --- publish/subscribe -----------------------------------------------------------------------

const rooms = {};

async function openPubSub(target, format = "json") {
  const session = await connect({ url: target.url, certificateHash: target.hash });
  rooms.pubsub = new PubSub(session, { serializer: serializers[format]() });
  rooms.open = {};
}

async function subscribe(_, topic, options) {
  rooms.open[topic] = await rooms.pubsub.subscribe(topic, options);
}

const subscribeFails = (_, topic, options) => failure(rooms.pubsub.subscribe(topic, options));
const publish = (_, topic, data) => rooms.pubsub.publish(topic, data);
const publishFails = (_, topic, data) => failure(rooms.pubsub.publish(topic, data));

async function take(_, topic, count) {
  const seen = [];
  for (let taken = 0; taken < count; taken++) seen.push(await rooms.open[topic].receive());
  return seen;
}

const takeFails = (_, topic) => failure(rooms.open[topic].receive());

// Waits until so many messages are here or were dropped, and then until the last one is.
async function waiting(_, topic, count) {
  const subscription = rooms.open[topic];
  while (subscription.waiting + subscription.dropped < count && !subscription.isClosed) {
    await new Promise((turn) => setTimeout(turn));
  }
  return { waiting: subscription.waiting, dropped: subscription.dropped };
}

async function unsubscribe(_, topic) {
  const subscription = rooms.open[topic];
  const next = subscription.receive();
  await subscription.close();
  return { next: await next, isClosed: subscription.isClosed };
}

async function closePubSub() {
  const ends = Object.values(rooms.open).map((subscription) => subscription.receive());
  await rooms.pubsub.close();
  return await Promise.all(ends);
}

// --- reconnecting ----------------------------------------------------------------------------

const kept = {};

function keep(target, options) {
  kept.states = [];
  kept.greetings = [];
  kept.connection = new Reconnecting(
    async () => ({ url: target.url, certificateHash: target.hash }),
    {
      minDelayMs: 20,
      maxDelayMs: 100,
      ...options,
      onState: (state) => kept.states.push(state),
      onSession: async (session) => {
        kept.rpc = new Rpc(session);
        kept.greetings.push(await kept.rpc.call("greet"));
      },
    },
  );
}

async function current() {
  await kept.connection.getSession();
  return kept.greetings.at(-1);
}

async function next(_, before) {
  while (kept.greetings.at(-1) === before) await new Promise((turn) => setTimeout(turn, 5));
  await kept.connection.getSession();
  return { greetings: kept.greetings, states: kept.states };
}

async function leave() {
  kept.connection.close();
  const { state, session } = kept.connection;
  return { state, session, after: await failure(kept.connection.getSession()) };
}

async function giveUp(target, options) {
  keep(target, options);
  const error = await failure(kept.connection.getSession());
  const cause = kept.connection.error.name;
  return { name: error.name, cause, state: kept.connection.state, states: kept.states };
}

async function noSessionYet(target) {
  keep(target, { timeoutMs: 5000 });
  const error = await failure(kept.connection.getSession({ timeoutMs: 30 }));
  kept.connection.close();
  return error;
}

globalThis.js = {
  abort,
  begin,
  call,
  callAll,
  callFails,
  callTypes,
  closePubSub,
  closeRpc,
  current,
  datagrams,
  datagramsUntilTheEnd,
  decoded,
  echoed,
  encoded,
  ended,
  giveUp,
  givenUp,
  hashes,
  keep,
  leave,
  manyAtOnce,
  next,
  noSessionYet,
  notOpened,
  notSent,
  notify,
  openPubSub,
  openRpc,
  pendingCall,
  publish,
  publishFails,
  received,
  roundTrips,
  stoppedWriter,
  subscribe,
  subscribeFails,
  take,
  takeFails,
  unsubscribe,
  waiting,
  wrongArguments,
};
