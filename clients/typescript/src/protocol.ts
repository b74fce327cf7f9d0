/** The ledger's calls: what is sent for each, and what its answer means. */

import { HookonceError, InputChanged, KeyLeased, LeaseLost, OutcomeUnknown, Refused, StepRunning, StepWaiting } from "./errors.js";
import { encoded, type Json, plainText } from "./json.js";
import type { Ended, ResultNotKeptReason } from "./outcome.js";
import { ANSWER_MS, type Call, Cut, pause, problemOf, type Reply, Wire } from "./wire.js";

export type OnLost = "hold" | "retry";

/** The right to execute a step, as long as nobody has a higher fence. */
export interface Grant {
  readonly step: string;
  /** Answers that name another are not taken for this one's. */
  readonly claimId?: string;
  readonly fence: number;
  readonly attempt: number;
  readonly effectKey: string;
  /** When the claim was sent, by `performance.now()`: the lease has begun after it. */
  readonly claimedAt: number;
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
  /** What the holder said as it gave up; null where it said nothing. */
  readonly error: Json;
}

/** What became of a lost step. `result`, `error`, `evidence`: whatever can be JSON; the evidence says how you know. */
export type Outcome =
  | { readonly outcome: "done"; readonly result: unknown; readonly evidence: unknown }
  | { readonly outcome: "failed"; readonly error: unknown; readonly evidence: unknown }
  | { readonly outcome: "not-executed"; readonly evidence: unknown };

/** A step as it is in the ledger. */
export interface StepState {
  readonly step: string;
  readonly status: "running" | "done" | "failed" | "released" | "unknown";
  readonly result: Json;
  readonly resultNotKept: ResultNotKeptReason | null;
  readonly fence: number;
  readonly attempt: number;
  readonly effectKey: string;
  readonly owner: string | null;
  readonly inputHash: string | null;
  readonly endedAt: string | null;
}

export interface Terms {
  readonly leaseMs: number;
  readonly onLost: OnLost;
  readonly waitMs: number;
  readonly inputHash: string | null;
}

/** An event to be written with a step's end. */
export interface Emitted {
  readonly type: string;
  readonly data: Json;
  readonly key?: string;
  readonly source?: string;
}

/** Which event a step waits for: one of its source that has all that is given of type, key and match. */
export interface EventWanted {
  readonly source: string;
  readonly type?: string;
  readonly key?: string;
  /** A value in the body: `{ place: "body:/data/object/id", value: "pi_1" }`. */
  readonly match?: { readonly place: string; readonly value: string | number | boolean };
}

/** The event that a step has waited for. */
export interface EventFound {
  readonly event: string;
  readonly source: string;
  readonly type: string | null;
  readonly key: string | null;
  /** RFC 3339. */
  readonly receivedAt: string;
  /** Its JSON; `{ base64 }` where the body is none. */
  readonly body: Json;
}

/** How long one claim waits at the server before it is sent again: proxies cut longer ones off. */
const WAIT_MS_MAX = 20_000;
const EVIDENCE_BYTES_MAX = 60_000;

/** One segment of a path. A URL can't carry the names "." and "..", however they are written. */
function segment(name: string): string {
  if (name === "." || name === "..") throw new TypeError(`${JSON.stringify(name)} can't be a name: URLs drop it`);
  return encodeURIComponent(name);
}

function stepPath(run: string, step: string, action?: string): string {
  const path = `/runs/${segment(run)}/steps/${segment(step)}`;
  return action === undefined ? path : `${path}/${action}`;
}

const whole = (ms: number) => Math.max(1, Math.round(ms));

export class Protocol {
  constructor(
    private readonly wire: Wire,
    readonly owner: string,
  ) {}

  async claim(run: string, step: string, terms: Terms, claimId: string, signal?: AbortSignal): Promise<Grant | Ended> {
    const fixed = {
      claim_id: claimId,
      owner: this.owner,
      lease_ms: whole(terms.leaseMs),
      input_hash: terms.inputHash ?? undefined,
      on_lost: terms.onLost,
    };
    const call = { method: "POST", path: stepPath(run, step, "claim"), about: { run, step, claim_id: claimId } } as const;
    let claimedAt = 0;
    const send = (waitMs: number, more: Partial<Call>) => {
      claimedAt = performance.now();
      return this.wire.ask({ ...call, ...more, body: { ...fixed, wait_ms: waitMs } });
    };
    const reply = await this.untilIt("step-running", terms.waitMs, send, signal);
    const said = reply.body;
    if (reply.status === 200) return endedOf(said);
    if (reply.status !== 201) throw problem(reply, run, step);
    return { step, claimId, fence: said.fence, attempt: said.attempt, effectKey: said.effect_key, claimedAt };
  }

  /**
   * Asks until the answer is not this problem, or the time is over. Waits at the server, where not too many do. The signal ends the waiting
   * after the call that is under way: what that call is granted must be known.
   */
  private async untilIt(
    kind: string,
    waitMs: number,
    send: (waitMs: number, more: Partial<Call>) => Promise<Reply>,
    signal?: AbortSignal,
  ): Promise<Reply> {
    const until = performance.now() + waitMs;
    for (;;) {
      const began = performance.now();
      const left = Math.round(Math.min(Math.max(until - began, 0), WAIT_MS_MAX));
      const waiter = left > 0 ? this.wire.waiters.enter() : null;
      const wait = waiter === null ? 0 : left;
      let reply: Reply;
      try {
        reply = await send(wait, { ...(waiter && { cut: waiter.signal }), answerMs: ANSWER_MS + wait });
      } catch (error) {
        if (error instanceof Cut) continue;
        throw error;
      } finally {
        this.wire.waiters.leave(waiter);
      }
      const after = performance.now();
      if (problemOf(reply) !== kind || after >= until || signal?.aborted) return reply;
      // It did not let us wait: too many do.
      if (after - began < left / 2) await pause(Math.min((reply.retryAfterSeconds ?? 1) * 1000, until - after), signal);
    }
  }

  async heartbeat(run: string, grant: Grant, leaseMs: number, giveUpMs?: number, signal?: AbortSignal): Promise<void> {
    // One that waits in line for a connection is of no use.
    const patienceMs = Math.min(1_000, leaseMs / 6);
    const more = { patienceMs, ...(giveUpMs !== undefined && { giveUpMs }), ...(signal && { signal }) };
    await this.changeOf(run, grant, "heartbeat", { lease_ms: whole(leaseMs) }, more);
  }

  async complete(run: string, grant: Grant, result: Json, emit: readonly Emitted[]): Promise<void> {
    await this.changeOf(run, grant, "complete", { result, emit });
  }

  /** The step is done, and its result can't be kept. */
  async completeWithout(run: string, grant: Grant, reason: ResultNotKeptReason, emit: readonly Emitted[]): Promise<void> {
    const notKept = { reason: reason.reason, ...(reason.detail !== null && { detail: plainText(reason.detail, 1_000) }) };
    await this.changeOf(run, grant, "complete", { result_not_kept: notKept, emit });
  }

  async fail(run: string, grant: Grant, error: Json, emit: readonly Emitted[]): Promise<void> {
    // An error of null would read as none.
    await this.changeOf(run, grant, "complete", { error: error ?? "failed", emit });
  }

  async release(run: string, grant: Grant): Promise<void> {
    await this.changeOf(run, grant, "release", {});
  }

  /**
   * The holder stops, and does not know what came of it: under "hold" the step is unknown at once, under "retry" the next one's. The fence
   * that resolves it.
   */
  async abandon(run: string, grant: Grant, error: unknown, giveUpMs?: number): Promise<number> {
    const more = giveUpMs === undefined ? {} : { giveUpMs };
    return (await this.changeOf(run, grant, "abandon", { error: evidenceOf(error) }, more)).fence ?? grant.fence;
  }

  async resolve(run: string, step: string, fence: number, outcome: Outcome): Promise<void> {
    const result = outcome.outcome === "done" ? outcome.result : outcome.outcome === "failed" ? outcome.error : undefined;
    const body = {
      expected_fence: fence,
      outcome: outcome.outcome,
      ...(result !== undefined && { result: encoded(result) }),
      evidence: encoded(outcome.evidence),
    };
    await this.change(run, step, "resolve", body);
  }

  private changeOf(run: string, grant: Grant, action: string, body: object, more: Partial<Call> = {}): Promise<any> {
    const claimed = grant.claimId === undefined ? {} : { claim_id: grant.claimId };
    return this.change(run, grant.step, action, { fence: grant.fence, ...claimed, ...body }, more);
  }

  private async change(
    run: string,
    step: string,
    action: string,
    body: { claim_id?: string; [name: string]: unknown },
    more: Partial<Call> = {},
  ): Promise<any> {
    const about = { run, step, ...(body.claim_id !== undefined && { claim_id: body.claim_id }) };
    const reply = await this.wire.ask({ method: "POST", path: stepPath(run, step, action), body, about, ...more });
    if (reply.status !== 200) throw problem(reply, run, step);
    return reply.body;
  }

  async lost(run: string, step: string, fence: number): Promise<LostStep> {
    const reply = await this.wire.ask({ method: "GET", path: stepPath(run, step), about: { run, step } });
    if (reply.status !== 200) throw problem(reply, run, step);
    const { attempt, effect_key: effectKey, owner, claimed_at: claimedAt, error } = reply.body;
    return { run, step, fence, attempt, effectKey, owner, claimedAt, error: error ?? null };
  }

  async resume(run: string): Promise<Map<string, StepState>> {
    const found = new Map<string, StepState>();
    let cursor: string | null = null;
    do {
      const query: string = cursor === null ? "" : `?cursor=${cursor}`;
      const reply = await this.wire.ask({ method: "GET", path: `/runs/${segment(run)}/steps${query}`, about: { run } });
      if (reply.status !== 200) throw problem(reply, run, "");
      for (const item of reply.body.items) found.set(item.step, stateOf(item));
      cursor = reply.body.next;
    } while (cursor);
    return found;
  }

  /** The step's end: done with the event, or failed where it did not come in time. */
  async wait(run: string, step: string, wanted: EventWanted, timeoutMs: number, waitMs: number, signal?: AbortSignal): Promise<Ended> {
    const { source, type, key } = wanted;
    // A number is compared as JSON writes it.
    const match = wanted.match && { place: wanted.match.place, value: String(wanted.match.value) };
    const fixed = { source, type, key, match, timeout_ms: whole(timeoutMs) };
    const call = { method: "POST", path: stepPath(run, step, "wait"), about: { run, step } } as const;
    const send = (wait: number, more: Partial<Call>) => this.wire.ask({ ...call, ...more, body: { ...fixed, wait_ms: wait } });
    const reply = await this.untilIt("step-waiting", waitMs, send, signal);
    if (reply.status !== 200) throw problem(reply, run, step);
    return endedOf(reply.body);
  }

  /** The fence where the key is new (0 without a lease), null where it was seen. */
  async mark(scope: string, key: string, claimId: string, window: string, leaseMs?: number): Promise<number | null> {
    // A lost answer must not make our own repeat "seen".
    const body = { key, window, claim_id: claimId, lease_ms: leaseMs === undefined ? undefined : whole(leaseMs) };
    const about = { scope, key, claim_id: claimId };
    const reply = await this.wire.ask({ method: "POST", path: `/dedup/${segment(scope)}`, body, about });
    if (problemOf(reply) === "key-leased") throw new KeyLeased(key, reply.retryAfterSeconds ?? 1);
    if (reply.status !== 200) throw problem(reply, scope, key);
    return reply.body.status === "seen" ? null : (reply.body.fence ?? 0);
  }

  /** What the holder of a key says: `done`, `heartbeat`, `release`. */
  async mind(
    scope: string,
    action: string,
    claimId: string,
    body: { key: string; fence: number; lease_ms?: number },
    more: Partial<Call> = {},
  ): Promise<void> {
    const about = { scope, key: body.key, claim_id: claimId };
    const reply = await this.wire.ask({ method: "POST", path: `/dedup/${segment(scope)}/${action}`, body, about, ...more });
    if (reply.status !== 200) throw problem(reply, scope, body.key);
  }
}

function endedOf(said: any): Ended {
  return {
    status: said.status,
    result: said.result ?? null,
    endedAt: said.ended_at ?? null,
    owner: said.owner ?? null,
    replayedAt: said.replayed_at ?? null,
    resultNotKept: notKeptOf(said),
  };
}

function notKeptOf(said: any): ResultNotKeptReason | null {
  const kept = said.result_not_kept;
  return kept ? { reason: kept.reason, detail: kept.detail ?? null } : null;
}

function stateOf(item: any): StepState {
  const { step, status, result, fence, attempt, owner } = item;
  const more = { effectKey: item.effect_key, inputHash: item.input_hash, endedAt: item.ended_at ?? null, resultNotKept: notKeptOf(item) };
  return { step, status, result, fence, attempt, owner, ...more };
}

/** An error as evidence: whatever can be JSON, not larger than the ledger takes. */
function evidenceOf(error: unknown): Json {
  let found: Json;
  try {
    found = encoded(error);
  } catch (problem) {
    found = String(problem);
  }
  if (new TextEncoder().encode(JSON.stringify(found)).length <= EVIDENCE_BYTES_MAX) return found;
  return plainText(error instanceof Error ? `${error.name}: ${error.message}` : JSON.stringify(found), EVIDENCE_BYTES_MAX / 6);
}

function problem(reply: Reply, run: string, step: string): HookonceError {
  const kind = problemOf(reply);
  const said = reply.body;
  const detail = String(said?.detail ?? "");
  switch (kind) {
    case "step-running":
      return new StepRunning(step, said.owner ?? null, reply.retryAfterSeconds ?? 1);
    case "step-waiting":
      return new StepWaiting(step, reply.retryAfterSeconds ?? 1);
    case "outcome-unknown":
      return new OutcomeUnknown(run, step, said.fence, {
        owner: said.owner ?? null,
        claimedAt: said.claimed_at ?? null,
        effectKey: said.effect_key ?? null,
        error: said.error ?? null,
      });
    case "input-changed":
      return new InputChanged(detail);
    case "stale-fence":
      return new LeaseLost(detail);
    default:
      return new Refused(reply.status, kind, detail);
  }
}
