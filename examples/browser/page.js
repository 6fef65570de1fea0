// What the pages of the examples share.

import { Reconnecting } from "./js/pywebtransport.js";

const STATES = {
  connecting: "connecting…",
  open: "connected",
  waiting: "reconnecting…",
  closed: "offline",
};

export const element = (id) => document.getElementById(id);

/**
 * Keep a session with the example's server open, and show its state in the header.
 *
 * @param {function(WebTransport)} onSession Called with each session.
 * @param {string} [query] What follows the server's URL.
 * @returns {Reconnecting}
 */
export function keepSession(onSession, query = "") {
  const badge = element("status");
  // Asked again for each session: the server has a new certificate when it was started again.
  const target = async () => {
    const { url, certificateHash } = await (await fetch("config.json")).json();
    return { url: url + query, certificateHash };
  };
  const onState = (state, error) => {
    badge.textContent = STATES[state];
    badge.dataset.state = state;
    badge.title = error?.message ?? "";
  };
  return new Reconnecting(target, { onSession, onState, maxDelayMs: 3000 });
}

/** A canvas with sharp pixels: calls `draw(context, width, height)` whenever its size changes. */
export function fitCanvas(canvas, draw) {
  const context = canvas.getContext("2d");
  const fit = () => {
    const { width, height } = canvas.getBoundingClientRect();
    const scale = globalThis.devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    draw(context, width, height);
  };
  new ResizeObserver(fit).observe(canvas);
  // Canvases do not follow the colours of the style sheet by themselves.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);
  return context;
}

/** A colour of the style sheet: `color("--accent")`. */
export const color = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A number of bytes for people. */
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) [count, unit] = [count / 1024, unit + 1];
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}
