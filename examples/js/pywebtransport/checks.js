/** Checks of arguments, and limits of time, for the other modules. */

import { ConfigurationError } from "./errors.js";

const MAX_TIME = 2 ** 31 - 1; // of a timer
export const MAX_LENGTH = 2 ** 32 - 1; // of a payload

export const ignore = () => {};

export function check(condition, name, value, expected) {
  if (condition) return;
  let shown = typeof value;
  if (value === null || ["number", "boolean"].includes(typeof value)) shown = String(value);
  if (typeof value === "string") shown = JSON.stringify(value.slice(0, 80));
  throw new ConfigurationError(`${name} must be ${expected}, got ${shown}`, { field: name });
}

export function checkInteger(name, value, least, most) {
  const fits = Number.isInteger(value) && value >= least && value <= most;
  check(fits, name, value, `a whole number from ${least} to ${most}`);
}

export function checkTime(name, value) {
  const fits = typeof value === "number" && value > 0 && value <= MAX_TIME;
  check(fits, name, value, `milliseconds, more than 0 and at most ${MAX_TIME}`);
}

/** Limits of a piece of work, which may have several steps: a time, an AbortSignal, `stop`. */
export class Limit {
  #outer;
  #controller = new AbortController();
  #timer;
  #over;

  /** @param {?AbortSignal} outer Stops the work, too. */
  constructor(outer = null) {
    this.#over = new Promise((_, reject) => {
      this.signal.addEventListener("abort", () => reject(this.signal.reason));
    });
    this.#over.catch(ignore);
    this.#outer = outer;
    outer?.addEventListener("abort", this.#follow);
    if (outer?.aborted) this.#follow();
  }

  #follow = () => this.stop(this.#outer.reason);

  /** Aborted when the limit is reached; its reason is the error. */
  get signal() {
    return this.#controller.signal;
  }

  /** From now on the work may take so long, or as long as it wants; `error()` says what failed. */
  within(timeoutMs, error) {
    clearTimeout(this.#timer);
    if (timeoutMs !== null) this.#timer = setTimeout(() => this.stop(error()), timeoutMs);
    return this;
  }

  /** Let the work fail with an error. */
  stop(error) {
    this.#controller.abort(error);
  }

  /** Wait for a step; throws when the limit is reached first. */
  async race(step) {
    return await Promise.race([this.#over, step]);
  }

  /** The work is done. */
  end() {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#follow);
  }
}
