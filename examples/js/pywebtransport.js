/**
 * pywebtransport.js: talk to a pywebtransport server from a web page.
 *
 * ES modules without a build step and without dependencies. Copy this file and the folder
 * `pywebtransport` to your site:
 *
 *     import { connect, Rpc } from "./pywebtransport.js";
 *
 *     const session = await connect({ url: "https://localhost:4433/", certificateHash: "5f1c…" });
 *     const rpc = new Rpc(session);
 *     console.log(await rpc.call("add", [1, 2]));
 *
 * A session is always a native `WebTransport`, so you can use the rest of the browser's API, too.
 * Times are milliseconds, and say so in their names; sizes are bytes.
 *
 * License: MIT, as pywebtransport.
 */

// The errors, all of them a TransportError, have the names of those in Python.
export {
  ConfigurationError,
  ConnectionError,
  DatagramTooLargeError,
  InvalidParamsError,
  InvalidTopicError,
  MethodNotFoundError,
  PubSubError,
  PubSubErrorCode,
  RpcCancelledError,
  RpcError,
  RpcErrorCode,
  RpcTimeoutError,
  SerializationError,
  SessionClosedError,
  SlowSubscriberError,
  StreamError,
  SubscriptionLimitError,
  TopicForbiddenError,
  TransportError,
} from "./pywebtransport/errors.js";

// Sessions: by the hash of a certificate, and with another one whenever one ends.
export { certificateHashes, connect } from "./pywebtransport/session.js";
export { Reconnecting } from "./pywebtransport/reconnecting.js";

// Messages with a type: the peers of StructuredStream and StructuredDatagramTransport.
export {
  JSONSerializer,
  MsgPackSerializer,
  fromBase64,
  toBase64,
} from "./pywebtransport/serializers.js";
export { StructuredDatagrams, StructuredStream } from "./pywebtransport/streams.js";

// Remote calls: the peer of pywebtransport.rpc.RpcManager.
export { Rpc } from "./pywebtransport/rpc.js";

// Publish/subscribe: the peer of pywebtransport.pubsub.Broker.
export { PubSub, Subscription } from "./pywebtransport/pubsub.js";
