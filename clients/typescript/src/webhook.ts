/** Standard Webhooks verification of what hookonce relays. */

import { VerificationFailed } from "./errors.js";

/** A request that was verified. The signature covers `id` and `body`; the rest is what hookonce said beside it. */
export interface RelayedEvent {
  /** The event's id: the same on every attempt and replay. */
  readonly id: string;
  readonly source: string;
  readonly key: string;
  readonly type: string | null;
  readonly attempt: number;
  readonly fence: number;
  readonly replay: string | null;
  readonly body: Uint8Array;
  json(): unknown;
}

export interface VerifyOptions {
  /** On both sides of `now`. */
  toleranceSeconds?: number;
  /** Unix seconds; default: this machine's clock. */
  now?: number;
}

export type HeadersLike = Headers | Record<string, string | string[] | undefined>;

const CANDIDATES_MAX = 16;

/**
 * Checks a relayed request with the destination's `signing_secret`, or several while rotating; throws `VerificationFailed`. `body` is the
 * exact bytes that came.
 */
export async function verify(
  headers: HeadersLike,
  body: Uint8Array | string,
  secrets: string | readonly string[],
  { toleranceSeconds = 300, now = Date.now() / 1000 }: VerifyOptions = {},
): Promise<RelayedEvent> {
  const header = reader(headers);
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const id = header("webhook-id");
  if (!id) throw new VerificationFailed("malformed_request");
  const unix = checkedTimestamp(header("webhook-timestamp"), toleranceSeconds, now);
  const found = candidates(header("webhook-signature"));
  const prefix = new TextEncoder().encode(`${id}.${unix}.`);
  const signed = new Uint8Array(prefix.length + bytes.length);
  signed.set(prefix);
  signed.set(bytes, prefix.length);
  if (!(await anyMatches(typeof secrets === "string" ? [secrets] : secrets, found, signed))) throw new VerificationFailed("no_match");
  return {
    id,
    source: header("hookonce-source") ?? "",
    key: header("hookonce-event-key") ?? "",
    type: header("hookonce-event-type"),
    attempt: number(header("hookonce-attempt")),
    fence: number(header("hookonce-fence")),
    replay: header("hookonce-replay"),
    body: bytes,
    json: () => JSON.parse(new TextDecoder().decode(bytes)) as unknown,
  };
}

function reader(headers: HeadersLike): (name: string) => string | null {
  if (headers instanceof Headers) return (name) => headers.get(name);
  const lower = new Map<string, string>();
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) lower.set(name.toLowerCase(), Array.isArray(value) ? value.join(", ") : value);
  }
  return (name) => lower.get(name) ?? null;
}

function checkedTimestamp(text: string | null, tolerance: number, now: number): string {
  if (text === null) throw new VerificationFailed("timestamp_missing");
  if (!/^[0-9]{1,12}$/.test(text)) throw new VerificationFailed("timestamp_malformed");
  if (now - Number(text) > tolerance) throw new VerificationFailed("timestamp_too_old");
  if (Number(text) - now > tolerance) throw new VerificationFailed("timestamp_in_future");
  return text;
}

/** Bounded: each secret is tried with each of them. */
function candidates(text: string | null): Uint8Array<ArrayBuffer>[] {
  if (!text) throw new VerificationFailed("missing_signature");
  const found = [];
  for (const part of text.split(" ").slice(0, CANDIDATES_MAX)) {
    const decoded = part.startsWith("v1,") ? fromBase64(part.slice(3)) : null;
    if (decoded !== null && decoded.length > 0) found.push(decoded);
  }
  if (found.length === 0) throw new VerificationFailed("malformed_signature");
  return found;
}

/** In constant time: `crypto.subtle.verify` compares. */
async function anyMatches(secrets: readonly string[], found: Uint8Array<ArrayBuffer>[], signed: Uint8Array<ArrayBuffer>): Promise<boolean> {
  let matches = false;
  for (const secret of secrets) {
    const raw = fromBase64(secret.replace(/^whsec_/, ""));
    if (raw === null || raw.length === 0) throw new TypeError("a signing secret is whsec_ and then base64");
    const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    for (const candidate of found) {
      if (await crypto.subtle.verify("HMAC", key, candidate, signed)) matches = true;
    }
  }
  return matches;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> | null {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) return null;
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function number(text: string | null): number {
  return text !== null && /^[0-9]{1,15}$/.test(text) ? Number(text) : 0;
}
