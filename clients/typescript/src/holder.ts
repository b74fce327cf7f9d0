/** Who executes a step: beats while the work runs, and tells the ledger what came of it. */

import { ABORTED, orAborted } from "./abort.js";
import { HookonceError, LeaseLost, NotExecuted, Refused, StepFailed } from "./errors.js";
import { encoded, isName, type Json, NotEncodable, shown } from "./json.js";
import { executed, type ResultNotKeptReason, type StepOutcome } from "./outcome.js";
import type { Emitted, Grant, Outcome, Terms } from "./protocol.js";
import type { Run } from "./run.js";
import { pause } from "./wire.js";

/** What the work gets to know: pass `effectKey` on to whoever is to do something, as their Idempotency-Key. */
export interface Context {
  readonly run: Run;
  readonly step: string;
  readonly fence: number;
  readonly attempt: number;
  /** Stable over all attempts at the step. */
  readonly effectKey: string;
  /** Aborted when the step is no longer this holder's, and when the caller gives up. Pass it on to fetch. */
  readonly signal: AbortSignal;
  readonly heartbeats: number;
  /** Throws where the step is lost, its lease has run out unextended, or the caller gave up: call it just before an effect. */
  check(): void;
  /**
   * An event that is written with the result, in one statement, and relayed like received ones. `data`: whatever can be JSON. Throws at
   * once where the ledger would refuse it.
   */
  emit(type: string, data: unknown, more?: { key?: string; source?: string }): void;
}

/** How long work that was told to stop may take to say how it ended. */
const STOP_MS = 100;
const ABANDON_GIVE_UP_MS = 1_000;
const NAME_BYTES_MAX = 255;
const KEY_BYTES_MAX = 1_024;

type Settled = { readonly value: unknown } | { readonly error: unknown };

export class Holder implements Context {
  readonly step: string;
  readonly fence: number;
  readonly attempt: number;
  readonly effectKey: string;
  heartbeats = 0;
  private readonly emitted: Emitted[] = [];
  private readonly stop = new AbortController();
  private readonly over = new AbortController();
  private isLost = false;
  private leasedFrom: number;

  constructor(
    readonly run: Run,
    private readonly grant: Grant,
    private readonly terms: Terms,
  ) {
    ({ step: this.step, fence: this.fence, attempt: this.attempt, effectKey: this.effectKey } = grant);
    this.leasedFrom = grant.claimedAt;
    void this.beat();
  }

  get signal(): AbortSignal {
    return this.stop.signal;
  }

  check(): void {
    if (this.isLost || performance.now() - this.leasedFrom > this.terms.leaseMs) {
      throw new LeaseLost(`the lease of step ${JSON.stringify(this.step)} is over`);
    }
    this.signal.throwIfAborted();
  }

  emit(type: string, data: unknown, more: { key?: string; source?: string } = {}): void {
    checkName("type", type, NAME_BYTES_MAX);
    if (more.key !== undefined) checkName("key", more.key, KEY_BYTES_MAX);
    if (more.source !== undefined) checkName("source", more.source, NAME_BYTES_MAX);
    this.emitted.push({ type, data: encoded(data, this.run.ledger.encode), ...more });
  }

  /** Executes the work, and records how it ended. Where the caller gives up, the work is told, and the step is given up at once. */
  async execute(work: (context: Context) => unknown, callers?: AbortSignal): Promise<StepOutcome<unknown>> {
    const ended = settled(() => work(this));
    try {
      const first = await orAborted(ended, callers);
      if (first !== ABORTED) return await this.finish(first);
      this.stop.abort(callers!.reason);
      const late = await Promise.race([ended, pause(STOP_MS)]);
      if (late) return await this.finish(late);
      await this.giveUp(callers!.reason, ended);
      throw callers!.reason;
    } finally {
      this.over.abort();
    }
  }

  private async finish(ended: Settled): Promise<StepOutcome<unknown>> {
    if ("value" in ended) return this.done(ended.value);
    const { error } = ended;
    const { protocol } = this.run.ledger;
    const { name } = this.run;
    if (error instanceof StepFailed) {
      await this.failed(error);
      throw error;
    }
    this.over.abort();
    if (this.isLost) throw this.takenOver(error);
    if (error instanceof NotExecuted) await protocol.release(name, this.grant).catch(unless(HookonceError));
    else await this.abandon(error);
    throw error;
  }

  private async failed(error: StepFailed): Promise<void> {
    const { protocol, encode } = this.run.ledger;
    try {
      await protocol.fail(this.run.name, this.grant, encodedError(error, encode), this.emitted);
    } catch (problem) {
      if (!(problem instanceof Refused) || problem.status !== 413) throw problem;
      await protocol.fail(this.run.name, this.grant, shown(error.error), this.emitted);
    }
  }

  private async done(value: unknown): Promise<StepOutcome<unknown>> {
    try {
      return await recordDone(this.run, this.grant, value, this.emitted);
    } catch (error) {
      // Its events, say, are refused. They belong to the record: who finds the step finds what was done, and why it is not recorded.
      if (error instanceof Refused) await this.abandon({ refused: error.message, result: shown(value) });
      throw error;
    }
  }

  /** What happened is not known: whoever asks next is not kept waiting for the lease. */
  private async abandon(error: unknown): Promise<number> {
    const { protocol } = this.run.ledger;
    this.over.abort();
    return protocol.abandon(this.run.name, this.grant, error, ABANDON_GIVE_UP_MS).catch((problem: unknown) => {
      if (problem instanceof LeaseLost) throw this.takenOver(error);
      if (problem instanceof HookonceError) return this.fence;
      throw problem;
    });
  }

  private takenOver(cause: unknown): LeaseLost {
    return new LeaseLost(`step ${JSON.stringify(this.step)} was taken over while it was executed`, { cause });
  }

  /** The work goes on, deaf to its signal. Under "hold" nobody else does it, and how it ends may still be told. */
  private async giveUp(reason: unknown, ended: Promise<Settled>): Promise<void> {
    const fence = await this.abandon(reason);
    if (this.terms.onLost !== "hold") return;
    const tell = async () => {
      const outcome = outcomeOf(await ended, this.run.ledger.encode);
      if (outcome !== null) await this.run.ledger.protocol.resolve(this.run.name, this.step, fence, outcome);
    };
    // Where another has resolved it, that stands.
    void tell().catch(unless(HookonceError));
  }

  /** At a third of the lease, until the work is over or the lease is lost. */
  private async beat(): Promise<void> {
    const { signal } = this.over;
    const { leaseMs } = this.terms;
    for (let last = this.grant.claimedAt; ; ) {
      await pause(Math.max(0, leaseMs / 3 - (performance.now() - last)), signal);
      if (signal.aborted) return;
      last = performance.now();
      try {
        await this.run.ledger.protocol.heartbeat(this.run.name, this.grant, leaseMs, leaseMs / 3, signal);
        this.leasedFrom = last;
        this.heartbeats++;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof LeaseLost) {
          this.isLost = true;
          return this.stop.abort(error);
        }
        // The next beat may get through.
      }
    }
  }
}

/** What was done is recorded as done, whatever becomes of its result. */
export async function recordDone(run: Run, grant: Grant, value: unknown, emitted: readonly Emitted[]): Promise<StepOutcome<unknown>> {
  const { protocol, encode } = run.ledger;
  let notKept: ResultNotKeptReason;
  try {
    const result = encoded(value, encode);
    await protocol.complete(run.name, grant, result, emitted);
    return executed(result, protocol.owner, null);
  } catch (error) {
    if (error instanceof NotEncodable) notKept = { reason: "not-encodable", detail: error.message };
    else if (!(error instanceof Refused && [400, 413, 422].includes(error.status))) throw error;
    else notKept = { reason: error.status === 413 ? "too-large" : "not-encodable", detail: error.detail };
  }
  await protocol.completeWithout(run.name, grant, notKept, emitted);
  return executed(value, protocol.owner, notKept);
}

async function settled(work: () => unknown): Promise<Settled> {
  try {
    return { value: await work() };
  } catch (error) {
    return { error };
  }
}

/** What work that was given up came to after all; null where it doesn't tell. */
function outcomeOf(ended: Settled, encode: Holder["run"]["ledger"]["encode"]): Outcome | null {
  const evidence = "its executor, after its caller gave up";
  if ("value" in ended) {
    try {
      return { outcome: "done", result: encoded(ended.value, encode), evidence };
    } catch (error) {
      return { outcome: "done", result: null, evidence: `${evidence}; its result can't be kept: ${(error as Error).message}` };
    }
  }
  if (ended.error instanceof StepFailed) return { outcome: "failed", error: encodedError(ended.error, encode), evidence };
  return ended.error instanceof NotExecuted ? { outcome: "not-executed", evidence } : null;
}

function encodedError(failed: StepFailed, encode: Holder["run"]["ledger"]["encode"]): Json {
  try {
    return encoded(failed.error, encode);
  } catch {
    return shown(failed.error);
  }
}

/** Passes over errors of this kind alone. */
export function unless(kind: new (...given: never[]) => Error): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof kind)) throw error;
  };
}

function checkName(what: string, name: unknown, bytesMax: number): void {
  if (isName(name, bytesMax)) return;
  throw new TypeError(`emit: its ${what} is a text of 1 to ${bytesMax} bytes without control characters, not ${shown(name)}`);
}
