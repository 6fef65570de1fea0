/** Errors of pywebtransport.js, all of them a TransportError, and their codes. */

/** The base of all errors of this module. `cause` is the error of the browser, if there is one. */
export class TransportError extends Error {
  constructor(message, { cause, ...fields } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    Object.assign(this, fields);
  }
}

/** An argument has the wrong type, or is out of range. Nothing was done. */
export class ConfigurationError extends TransportError {}

/** The session could not be opened. Browsers do not tell pages why; the server's log does. */
export class ConnectionError extends TransportError {}

/** The session has ended: `code` and `reason` of the end that closed it, or null if it was lost. */
export class SessionClosedError extends TransportError {}

/** A stream was reset or stopped (`code`), or it ended within a message (`code` is null). */
export class StreamError extends TransportError {}

/** A value cannot be written, or bytes cannot be read, or a limit of messages is exceeded. */
export class SerializationError extends TransportError {}

/** The message does not fit into a datagram; `maxSize` is the limit. */
export class DatagramTooLargeError extends TransportError {}

/**
 * A remote call failed. Throw one in a method of your own to answer with it.
 *
 * `code` is a number (see `RpcErrorCode`, or your own), `data` is any value. `remote` is true if
 * the peer has answered with this error.
 */
export class RpcError extends TransportError {
  constructor(message, { code = RpcErrorCode.INTERNAL_ERROR, data = null, ...fields } = {}) {
    super(message, { code, data, remote: false, ...fields });
  }
}

/** The peer has no method with this name. */
export class MethodNotFoundError extends RpcError {}

/** The parameters do not match the method: number, names or types. */
export class InvalidParamsError extends RpcError {}

/** The call was ended by the other side, or by `close()` of this one. */
export class RpcCancelledError extends RpcError {}

/** The call did not end in time. */
export class RpcTimeoutError extends RpcError {}

/** The broker refused a request; `code` is a `PubSubErrorCode`. */
export class PubSubError extends RpcError {}

/** A topic or a pattern is malformed. */
export class InvalidTopicError extends PubSubError {}

/** The broker does not allow this topic for this session. */
export class TopicForbiddenError extends PubSubError {}

/** A limit of subscriptions is reached. */
export class SubscriptionLimitError extends PubSubError {}

/** The subscription ended because its queue was full, and its policy is "close". */
export class SlowSubscriberError extends PubSubError {}

/** Codes of failed calls. Your own methods may use any others outside -32768 to -32000. */
export const RpcErrorCode = Object.freeze({
  INVALID_REQUEST: -32600,
  METHOD_NOT_FOUND: -32601,
  INVALID_PARAMS: -32602,
  INTERNAL_ERROR: -32603,
  TIMEOUT: -32001,
  CANCELLED: -32002,
});

/** Why a broker refused, or ended a subscription. */
export const PubSubErrorCode = Object.freeze({
  INVALID_TOPIC: 1,
  FORBIDDEN: 2,
  LIMIT_REACHED: 3,
  UNAVAILABLE: 4,
  TOO_SLOW: 5,
  INVALID_SUBSCRIPTION: 6,
  TOO_LARGE: 7,
});

const RPC_ERRORS = {
  [RpcErrorCode.METHOD_NOT_FOUND]: MethodNotFoundError,
  [RpcErrorCode.INVALID_PARAMS]: InvalidParamsError,
  [RpcErrorCode.CANCELLED]: RpcCancelledError,
  [RpcErrorCode.TIMEOUT]: RpcTimeoutError,
};
const PUBSUB_ERRORS = {
  [PubSubErrorCode.INVALID_TOPIC]: InvalidTopicError,
  [PubSubErrorCode.FORBIDDEN]: TopicForbiddenError,
  [PubSubErrorCode.LIMIT_REACHED]: SubscriptionLimitError,
  [PubSubErrorCode.TOO_SLOW]: SlowSubscriberError,
};

/** The error for a failure that the peer has answered with. */
export function remoteError({ code, message, data }, method) {
  const kind = RPC_ERRORS[code] ?? RpcError;
  return new kind(`${method}: ${message}`, { code, data: data ?? null, method, remote: true });
}

/** The error for a refusal of the broker; other errors are returned as they are. */
export function brokerError(error, topic) {
  if (!(error instanceof RpcError) || !error.remote) return error;
  const { code, data } = error;
  const tooLarge = Object.keys(Object(data)).some((name) => name.startsWith("max_"));
  const reason = tooLarge ? PubSubErrorCode.TOO_LARGE : code;
  if (!Object.values(PubSubErrorCode).includes(reason)) return error;
  const kind = PUBSUB_ERRORS[reason] ?? PubSubError;
  return new kind(error.message, { code: reason, data, topic, remote: true, cause: error });
}
