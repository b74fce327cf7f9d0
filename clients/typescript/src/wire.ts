/** Calls over HTTP, each sent again as it was until it has an answer; and how many of them may wait at the server at once. */

import { Unavailable } from "./errors.js";

export interface Call {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly body?: unknown;
  readonly answerMs?: number;
  readonly giveUpMs?: number;
  /** Ends the trying, not the call that is under way. */
  readonly signal?: AbortSignal;
  /** What the answer is to be about, by the names of its members. */
  readonly about: Readonly<Record<string, string>>;
  /** Set where the call waits at the server: `Waiters` may cut it off. */
  readonly cut?: AbortSignal;
  /** After how long without an answer the calls that wait have to make room. Default: 1,000. */
  readonly patienceMs?: number;
}

export interface Reply {
  readonly status: number;
  // The server's word; its fields are read by name.
  readonly body: any;
  readonly retryAfterSeconds: number | null;
}

/** A call that waited was cut off, to make room. */
export class Cut extends Error {}

const RETRIED = [408, 429, 502, 503, 504];
const BACKOFF_BASE_MS = 100;
const BACKOFF_MAX_MS = 5_000;
/** How long one call may take: the server's own `call_timeout`, and some. */
export const ANSWER_MS = 15_000;
const PATIENCE_MS = 1_000;
const RECOVERY_MS = 60_000;

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

/**
 * The calls that wait at the server, each of which holds a connection. Runtimes and dispatchers bound how many there are, and queue what is
 * beyond: a heartbeat behind 100 waiting claims would come too late. So only so many wait there, the others ask from time to time; and where
 * a call that does not wait gets no answer all the same, those that do are cut off, and half as many may wait for the next minute.
 */
export class Waiters {
  private readonly waiting = new Set<AbortController>();
  private most: number;
  private cutAt = -Infinity;

  constructor(private readonly mostAtFirst: number) {
    this.most = mostAtFirst;
  }

  get size(): number {
    return this.waiting.size;
  }

  /** Null where too many wait. Who gets one must give it back. */
  enter(): AbortController | null {
    if (performance.now() - this.cutAt > RECOVERY_MS) this.most = this.mostAtFirst;
    if (this.waiting.size >= this.most) return null;
    const waiter = new AbortController();
    this.waiting.add(waiter);
    return waiter;
  }

  leave(waiter: AbortController | null): void {
    if (waiter !== null) this.waiting.delete(waiter);
  }

  makeRoom(): void {
    if (this.waiting.size === 0) return;
    this.most = Math.floor(this.waiting.size / 2);
    this.cutAt = performance.now();
    for (const waiter of this.waiting) waiter.abort();
  }
}

/**
 * How many calls may wait at once. Node's fetch and Deno's open as many connections as are asked for; Bun has 256 for all; browsers over
 * HTTP/1.1, and Workers, have 6.
 */
export function waitersMax(): number {
  const { Bun: bun, Deno: deno, process } = globalThis as { Bun?: unknown; Deno?: unknown; process?: { versions?: { node?: string } } };
  if (bun !== undefined) return 128;
  return deno !== undefined || process?.versions?.node !== undefined ? Infinity : 3;
}

/** How calls are sent. */
export class Wire {
  readonly waiters: Waiters;

  constructor(
    private readonly base: string,
    private readonly headers: Record<string, string>,
    private readonly giveUpMs: number,
    private readonly fetcher: typeof fetch,
    waiters: number,
  ) {
    this.waiters = new Waiters(waiters);
  }

  /** Sends one call until it has an answer: always the same, so that it is done once however often it arrives. */
  async ask(call: Call): Promise<Reply> {
    const until = performance.now() + (call.giveUpMs ?? this.giveUpMs);
    for (let attempt = 0; ; attempt++) {
      const reply = await this.send(call);
      if (reply !== null && !RETRIED.includes(reply.status)) return reply;
      if (call.cut?.aborted) throw new Cut();
      const jitter = Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 10));
      const wait = Math.max(jitter, (reply?.retryAfterSeconds ?? 0) * 1000);
      if (call.signal?.aborted || performance.now() + wait > until) {
        throw new Unavailable(reply === null ? "no answer" : `${reply.status} ${problemOf(reply)}`.trim());
      }
      await pause(wait, call.signal);
    }
  }

  /** Null where no answer came, one that was cut off, or one that is about something else. */
  private async send(call: Call): Promise<Reply | null> {
    const over = new AbortController();
    const end = () => over.abort();
    const timers = [setTimeout(end, call.answerMs ?? ANSWER_MS)];
    if (call.cut === undefined) timers.push(setTimeout(() => this.waiters.makeRoom(), call.patienceMs ?? PATIENCE_MS));
    call.cut?.addEventListener("abort", end);
    const init: RequestInit = { method: call.method, headers: this.headers, redirect: "manual", signal: over.signal };
    if (call.body !== undefined) {
      init.body = JSON.stringify(call.body);
      init.headers = { ...this.headers, "content-type": "application/json" };
    }
    try {
      if (call.cut?.aborted) return null;
      const response = await this.fetcher(this.base + call.path, init);
      const body = jsonOf(await response.text());
      if ((body === undefined && response.ok) || isAboutAnother(body, call.about)) return null;
      const retryAfter = response.headers.get("retry-after") ?? "";
      return { status: response.status, body, retryAfterSeconds: /^[0-9]+$/.test(retryAfter) ? Number(retryAfter) : null };
    } catch {
      return null;
    } finally {
      timers.forEach(clearTimeout);
      call.cut?.removeEventListener("abort", end);
    }
  }
}

/** Does the answer name another run, step or claim? Then it is the answer to another call, and this one has none. */
function isAboutAnother(body: any, about: Call["about"]): boolean {
  if (typeof body !== "object" || body === null) return false;
  return Object.entries(about).some(([name, asked]) => typeof body[name] === "string" && body[name] !== asked);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The end of a problem's type; empty where it is none. */
export function problemOf(reply: Reply): string {
  const type: unknown = reply.status >= 400 ? reply.body?.type : null;
  return typeof type === "string" ? (type.split(":").at(-1) ?? "") : "";
}
