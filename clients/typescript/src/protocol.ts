/** The ledger's calls over HTTP, each sent again as it was until it has an answer. */

import { HookonceError, InputChanged, KeyLeased, LeaseLost, OutcomeUnknown, Refused, StepRunning, Unavailable } from "./errors.js";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };
export type OnLost = "hold" | "retry";

/** The right to execute a step, as long as nobody has a higher fence. */
export interface Grant {
  readonly step: string;
  readonly fence: number;
  readonly attempt: number;
  readonly effectKey: string;
  /** When the claim was sent, by `performance.now()`: the lease has begun after it. */
  readonly claimedAt: number;
}

/** A step that needs no execution. Of a failed one `result` is the error that was recorded. */
export interface Ended {
  readonly status: "done" | "failed";
  readonly result: Json;
}

/** What a reconcile hook is asked about: what happened to the effect with this key? */
export interface LostStep {
  readonly run: string;
  readonly step: string;
  readonly fence: number;
  readonly attempt: number;
  readonly effectKey: string;
  readonly owner: string | null;
  readonly claimedAt: string;
}

/** What became of a lost step. `evidence`: any JSON that says how you know. */
export type Outcome =
  | { readonly outcome: "done"; readonly result: Json; readonly evidence: Json }
  | { readonly outcome: "failed"; readonly error: Json; readonly evidence: Json }
  | { readonly outcome: "not-executed"; readonly evidence: Json };

/** A step as it is in the ledger. */
export interface StepState {
  readonly step: string;
  readonly status: "running" | "done" | "failed" | "released" | "unknown";
  readonly result: Json;
  readonly fence: number;
  readonly attempt: number;
  readonly effectKey: string;
  readonly owner: string | null;
  readonly inputHash: string | null;
}

export interface Terms {
  readonly leaseMs: number;
  readonly onLost: OnLost;
  readonly waitMs: number;
  readonly inputHash: string | null;
}

interface Call {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: unknown;
  readonly answerMs?: number;
  readonly giveUpMs?: number;
  readonly signal?: AbortSignal;
}

interface Reply {
  readonly status: number;
  // The server's word; its fields are read by name.
  readonly body: any;
  readonly retryAfterSeconds: number | null;
}

const RETRIED = [429, 502, 503, 504];
const BACKOFF_BASE_MS = 100;
const BACKOFF_MAX_MS = 5_000;
/** How long one call may take: the server's own `call_timeout`, and some. */
const ANSWER_MS = 15_000;
/** How long one claim waits at the server before it is sent again: proxies cut longer ones off. */
const WAIT_MS_MAX = 20_000;

/** Waits; ends early, without an error, where the signal is given. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
  });
}

/** SHA-256 of the input's compact JSON with sorted keys; the same in all clients, as long as its numbers are integers. */
export async function inputHash(value: Json): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(canonical(value)));
  return "sha256:" + Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** As text, because an object puts keys that look like numbers first, whatever their order. */
function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => byCodePoint(a, b));
  return `{${entries.map(([name, item]) => `${JSON.stringify(name)}:${canonical(item)}`).join(",")}}`;
}

function byCodePoint(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let at = 0; at < Math.min(left.length, right.length); at++) {
    const difference = left[at]!.codePointAt(0)! - right[at]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

/** One segment of a path. A URL can't carry the names "." and "..", however they are written. */
function segment(name: string): string {
  if (name === "." || name === "..") throw new TypeError(`${JSON.stringify(name)} can't be a name: URLs drop it`);
  return encodeURIComponent(name);
}

function stepPath(run: string, step: string, action?: string): string {
  const path = `/runs/${segment(run)}/steps/${segment(step)}`;
  return action === undefined ? path : `${path}/${action}`;
}

/** How the calls are sent. */
export class Protocol {
  constructor(
    private readonly base: string,
    private readonly headers: Record<string, string>,
    readonly owner: string,
    private readonly giveUpMs: number,
    private readonly fetcher: typeof fetch,
  ) {}

  /** Sends one call until it has an answer: always the same, so that it is done once however often it arrives. */
  private async ask(call: Call): Promise<Reply> {
    const until = performance.now() + (call.giveUpMs ?? this.giveUpMs);
    for (let attempt = 0; ; attempt++) {
      const reply = await this.send(call);
      if (reply !== null && !RETRIED.includes(reply.status)) return reply;
      const jitter = Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 10));
      const wait = Math.max(jitter, (reply?.retryAfterSeconds ?? 0) * 1000);
      if (call.signal?.aborted || performance.now() + wait > until) {
        throw new Unavailable(reply === null ? "no answer" : `${reply.status} ${kindOf(reply)}`.trim());
      }
      await pause(wait, call.signal);
    }
  }

  /** Null where no answer came, or one that was cut off. */
  private async send(call: Call): Promise<Reply | null> {
    const init: RequestInit = { method: call.method, headers: this.headers, redirect: "manual" };
    if (call.body !== undefined) {
      init.body = JSON.stringify(call.body);
      init.headers = { ...this.headers, "content-type": "application/json" };
    }
    // It takes whole milliseconds alone.
    init.signal = AbortSignal.timeout(Math.ceil(call.answerMs ?? ANSWER_MS));
    let response: Response;
    let text: string;
    try {
      response = await this.fetcher(this.base + call.path, init);
      text = await response.text();
    } catch {
      return null;
    }
    const body = jsonOf(text);
    if (body === undefined && response.ok) return null;
    const retryAfter = response.headers.get("retry-after") ?? "";
    return { status: response.status, body, retryAfterSeconds: /^[0-9]+$/.test(retryAfter) ? Number(retryAfter) : null };
  }

  async claim(run: string, step: string, terms: Terms, claimId: string): Promise<Grant | Ended> {
    const until = performance.now() + terms.waitMs;
    for (;;) {
      const claimedAt = performance.now();
      const wait = Math.min(Math.max(until - claimedAt, 0), WAIT_MS_MAX);
      const body = {
        claim_id: claimId,
        owner: this.owner,
        lease_ms: Math.max(1, Math.round(terms.leaseMs)),
        input_hash: terms.inputHash ?? undefined,
        on_lost: terms.onLost,
        wait_ms: Math.round(wait),
      };
      const reply = await this.ask({ method: "POST", path: stepPath(run, step, "claim"), body, answerMs: ANSWER_MS + wait });
      const said = reply.body;
      if (reply.status === 201) return { step, fence: said.fence, attempt: said.attempt, effectKey: said.effect_key, claimedAt };
      if (reply.status === 200) return { status: said.status, result: said.result };
      const left = until - performance.now();
      if (kindOf(reply) !== "step-running" || left <= 0) throw problem(reply, run, step);
      // It did not let us wait: too many do.
      if (performance.now() - claimedAt < wait / 2) await pause(Math.min((reply.retryAfterSeconds ?? 1) * 1000, left));
    }
  }

  async heartbeat(run: string, grant: Grant, leaseMs: number, giveUpMs?: number, signal?: AbortSignal): Promise<void> {
    const body = { fence: grant.fence, lease_ms: Math.max(1, Math.round(leaseMs)) };
    const more = { ...(giveUpMs !== undefined && { giveUpMs }), ...(signal && { signal }) };
    await this.change(run, grant.step, "heartbeat", body, more);
  }

  async complete(run: string, grant: Grant, result: Json, emit: readonly unknown[]): Promise<void> {
    await this.change(run, grant.step, "complete", { fence: grant.fence, result, emit });
  }

  async fail(run: string, grant: Grant, error: Json, emit: readonly unknown[]): Promise<void> {
    // An error of null would read as none.
    await this.change(run, grant.step, "complete", { fence: grant.fence, error: error ?? "failed", emit });
  }

  async release(run: string, grant: Grant): Promise<void> {
    await this.change(run, grant.step, "release", { fence: grant.fence });
  }

  async resolve(run: string, step: string, fence: number, outcome: Outcome): Promise<void> {
    const result = outcome.outcome === "done" ? outcome.result : outcome.outcome === "failed" ? outcome.error : undefined;
    const body = { expected_fence: fence, outcome: outcome.outcome, result, evidence: outcome.evidence };
    await this.change(run, step, "resolve", body);
  }

  private async change(run: string, step: string, action: string, body: unknown, more: Partial<Call> = {}): Promise<void> {
    const reply = await this.ask({ method: "POST", path: stepPath(run, step, action), body, ...more });
    if (reply.status !== 200) throw problem(reply, run, step);
  }

  async lost(run: string, step: string, fence: number): Promise<LostStep> {
    const reply = await this.ask({ method: "GET", path: stepPath(run, step) });
    if (reply.status !== 200) throw problem(reply, run, step);
    const { attempt, effect_key: effectKey, owner, claimed_at: claimedAt } = reply.body;
    return { run, step, fence, attempt, effectKey, owner, claimedAt };
  }

  async resume(run: string): Promise<Map<string, StepState>> {
    const found = new Map<string, StepState>();
    let cursor: string | null = null;
    do {
      const query: string = cursor === null ? "" : `?cursor=${cursor}`;
      const reply = await this.ask({ method: "GET", path: `/runs/${segment(run)}/steps${query}` });
      if (reply.status !== 200) throw problem(reply, run, "");
      for (const item of reply.body.items) {
        const { step, status, result, fence, attempt, owner } = item;
        found.set(step, { step, status, result, fence, attempt, owner, effectKey: item.effect_key, inputHash: item.input_hash });
      }
      cursor = reply.body.next;
    } while (cursor);
    return found;
  }

  /** The fence where the key is new (0 without a lease), null where it was seen. */
  async mark(scope: string, key: string, window: string, leaseMs?: number): Promise<number | null> {
    // A lost answer must not make our own repeat "seen".
    const body = { key, window, claim_id: crypto.randomUUID(), lease_ms: leaseMs === undefined ? undefined : Math.max(1, Math.round(leaseMs)) };
    const reply = await this.ask({ method: "POST", path: `/dedup/${segment(scope)}`, body });
    if (kindOf(reply) === "key-leased") throw new KeyLeased(key, reply.retryAfterSeconds ?? 1);
    if (reply.status !== 200) throw problem(reply, scope, key);
    return reply.body.status === "seen" ? null : (reply.body.fence ?? 0);
  }

  async markDone(scope: string, key: string, fence: number): Promise<void> {
    const reply = await this.ask({ method: "POST", path: `/dedup/${segment(scope)}/done`, body: { key, fence } });
    if (reply.status !== 200) throw problem(reply, scope, key);
  }
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The end of a problem's type; empty where it is none. */
function kindOf(reply: Reply): string {
  const type: unknown = reply.status >= 400 ? reply.body?.type : null;
  return typeof type === "string" ? (type.split(":").at(-1) ?? "") : "";
}

function problem(reply: Reply, run: string, step: string): HookonceError {
  const kind = kindOf(reply);
  const detail = String(reply.body?.detail ?? "");
  switch (kind) {
    case "step-running":
      return new StepRunning(step, reply.body.owner ?? null, reply.retryAfterSeconds ?? 1);
    case "outcome-unknown":
      return new OutcomeUnknown(run, step, reply.body.fence);
    case "input-changed":
      return new InputChanged(detail);
    case "stale-fence":
      return new LeaseLost(detail);
    default:
      return new Refused(reply.status, kind, detail);
  }
}
