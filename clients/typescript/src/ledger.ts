/** The ledger as code sees it: runs, steps, dedup. */

import { HookonceError, InputChanged, LeaseLost, NotExecuted, OutcomeUnknown, StepFailed } from "./errors.js";
import {
  type Ended,
  type Grant,
  inputHash,
  type Json,
  type LostStep,
  type OnLost,
  type Outcome,
  pause,
  Protocol,
  type StepState,
  type Terms,
} from "./protocol.js";

export interface LedgerOptions {
  /** Default: http://127.0.0.1:8081 */
  url?: string;
  token?: string;
  /** Who executes, for people to read. */
  owner?: string;
  /** How long one call without an answer, or with 429, 502, 503 or 504, is sent again; then `Unavailable`. Default: 60,000. */
  giveUpMs?: number;
  fetch?: typeof fetch;
}

/** Asked what became of a step that was lost; null where it can't tell. */
export type Reconcile = (lost: LostStep) => Outcome | null | Promise<Outcome | null>;

export interface StepOptions {
  /** Extended at a third of it for as long as the work runs. Default: 30,000. */
  leaseMs?: number;
  /** Default: "hold" */
  onLost?: OnLost;
  /** How long to wait while another executes. Default: 30,000. */
  waitMs?: number;
  /** A step that comes again with another input is refused. */
  input?: Json;
  reconcile?: Reconcile;
}

/** What the work gets to know: pass `effectKey` on to whoever is to do something, as their Idempotency-Key. */
export interface Context {
  readonly run: Run;
  readonly step: string;
  readonly fence: number;
  readonly attempt: number;
  /** Stable over all attempts at the step. */
  readonly effectKey: string;
  /** Aborted when the step is no longer this holder's. */
  readonly signal: AbortSignal;
  readonly heartbeats: number;
  /** Throws `LeaseLost` where the step is lost, or its lease has run out unextended: call it just before an effect. */
  check(): void;
  /** An event that is written with the result, in one statement, and relayed like received ones. */
  emit(type: string, data: Json, more?: { key?: string; source?: string }): void;
}

const TERMS = { leaseMs: 30_000, onLost: "hold", waitMs: 30_000 } as const;
const ABANDON_MS = 1;
const ABANDON_GIVE_UP_MS = 1_000;

export class Ledger {
  readonly protocol: Protocol;

  constructor(options: LedgerOptions = {}) {
    const base = (options.url ?? "http://127.0.0.1:8081").replace(/\/+$/, "") + "/v1";
    const headers: Record<string, string> = options.token ? { authorization: `Bearer ${options.token}` } : {};
    const owner = options.owner ?? `client ${crypto.randomUUID()}`;
    this.protocol = new Protocol(base, headers, owner, options.giveUpMs ?? 60_000, options.fetch ?? fetch);
  }

  /** A run by its name: a set of named steps that are executed once each. */
  run(name: string): Run {
    return new Run(this, name);
  }

  /**
   * Is this key new in the scope? `window` is how long it is remembered: "24h". Without a lease the answer marks the key, and a crash
   * before the work is done loses it. With one, handle the key where `first` is true and then call `done()`; it is free again after the
   * lease where you don't.
   */
  dedup(scope: string, key: string, options: { window: string; leaseMs?: undefined }): Promise<boolean>;
  dedup(scope: string, key: string, options: { window: string; leaseMs: number }): Promise<DedupLease>;
  async dedup(scope: string, key: string, { window, leaseMs }: { window: string; leaseMs?: number | undefined }): Promise<boolean | DedupLease> {
    const fence = await this.protocol.mark(scope, key, window, leaseMs);
    return leaseMs === undefined ? fence !== null : new DedupLease(this, scope, key, fence);
  }
}

/** A key under a lease. `first`: it is yours to handle; else it was handled before. */
export class DedupLease {
  constructor(
    private readonly ledger: Ledger,
    private readonly scope: string,
    private readonly key: string,
    private readonly fence: number | null,
  ) {}

  get first(): boolean {
    return this.fence !== null;
  }

  /** Says that the key is handled; `LeaseLost` where another has it now. */
  async done(): Promise<void> {
    if (this.fence !== null) await this.ledger.protocol.markDone(this.scope, this.key, this.fence);
  }
}

export class Run {
  private known = new Map<string, StepState>();

  constructor(
    readonly ledger: Ledger,
    readonly name: string,
  ) {}

  /** All steps as they are. Those that have ended are then skipped without asking again. */
  async resume(): Promise<Map<string, StepState>> {
    const found = await this.ledger.protocol.resume(this.name);
    this.known = new Map([...found].filter(([, state]) => state.status === "done" || state.status === "failed"));
    return found;
  }

  /**
   * Executes the work where nobody has, and gives its result, as JSON has it, the first time as every time after.
   *
   * Thrown by the work, `StepFailed` ends the step for good, and `NotExecuted` gives it back. Any other error leaves open what happened:
   * the lease ends, and the step is unknown, or under "retry" the next one's.
   */
  async execute<T>(step: string, work: (context: Context) => T | Promise<T>, options: StepOptions = {}): Promise<T> {
    const terms = await termsOf(options);
    const begun = this.knownEnd(step, terms) ?? (await this.begin(step, terms, options.reconcile));
    if ("status" in begun) {
      if (begun.status === "failed") throw new StepFailed(begun.result);
      return begun.result as T;
    }
    const holder = new Holder(this, begun, terms.leaseMs);
    try {
      return (await holder.execute(work)) as T;
    } finally {
      holder.tellToStop();
    }
  }

  /** The single calls, for who executes in some other way: nobody beats for a claim. */
  async claim(step: string, options: StepOptions & { claimId?: string } = {}): Promise<Grant | Ended> {
    const terms = await termsOf({ waitMs: 0, ...options });
    return this.ledger.protocol.claim(this.name, step, terms, options.claimId ?? crypto.randomUUID());
  }

  heartbeat(grant: Grant, leaseMs: number = TERMS.leaseMs): Promise<void> {
    return this.ledger.protocol.heartbeat(this.name, grant, leaseMs);
  }

  complete(grant: Grant, result: Json = null): Promise<void> {
    return this.ledger.protocol.complete(this.name, grant, result, []);
  }

  fail(grant: Grant, error: Json): Promise<void> {
    return this.ledger.protocol.fail(this.name, grant, error, []);
  }

  release(grant: Grant): Promise<void> {
    return this.ledger.protocol.release(this.name, grant);
  }

  /** Ends the doubt about an unknown step. */
  resolve(step: string, fence: number, outcome: Outcome): Promise<void> {
    return this.ledger.protocol.resolve(this.name, step, fence, outcome);
  }

  private knownEnd(step: string, terms: Terms): Ended | null {
    const state = this.known.get(step);
    if (state === undefined) return null;
    if (state.inputHash && terms.inputHash && state.inputHash !== terms.inputHash) {
      throw new InputChanged(`step ${JSON.stringify(step)} was claimed before with another input`);
    }
    return { status: state.status as Ended["status"], result: state.result };
  }

  /** Claims. Where the outcome is unknown, asks the hook and records what it says. */
  private async begin(step: string, terms: Terms, reconcile?: Reconcile): Promise<Grant | Ended> {
    const { protocol } = this.ledger;
    for (;;) {
      try {
        return await protocol.claim(this.name, step, terms, crypto.randomUUID());
      } catch (error) {
        if (!(error instanceof OutcomeUnknown) || reconcile === undefined) throw error;
        const outcome = await reconcile(await protocol.lost(this.name, step, error.fence));
        if (outcome === null) throw error;
        // Where another has resolved it meanwhile, the next claim tells.
        await protocol.resolve(this.name, step, error.fence, outcome).catch(unless(LeaseLost));
      }
    }
  }
}

async function termsOf(options: StepOptions): Promise<Terms> {
  const { leaseMs, onLost, waitMs } = { ...TERMS, ...options };
  if (!(leaseMs > 0)) throw new TypeError(`leaseMs: ${leaseMs} is not above 0`);
  return { leaseMs, onLost, waitMs, inputHash: options.input === undefined ? null : await inputHash(options.input) };
}

/** Passes over errors of this kind alone. */
function unless(kind: new (...given: never[]) => Error): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof kind)) throw error;
  };
}

/** Who executes a step, and beats while the work runs. */
class Holder implements Context {
  readonly step: string;
  readonly fence: number;
  readonly attempt: number;
  readonly effectKey: string;
  heartbeats = 0;
  private readonly emitted: Record<string, Json>[] = [];
  private readonly lost = new AbortController();
  private readonly over = new AbortController();
  private leasedFrom: number;
  private readonly beats: Promise<void>;

  constructor(
    readonly run: Run,
    private readonly grant: Grant,
    private readonly leaseMs: number,
  ) {
    ({ step: this.step, fence: this.fence, attempt: this.attempt, effectKey: this.effectKey } = grant);
    this.leasedFrom = grant.claimedAt;
    this.beats = this.beat();
  }

  get signal(): AbortSignal {
    return this.lost.signal;
  }

  check(): void {
    if (this.signal.aborted || performance.now() - this.leasedFrom > this.leaseMs) {
      throw new LeaseLost(`the lease of step ${JSON.stringify(this.step)} is over`);
    }
  }

  emit(type: string, data: Json, more: { key?: string; source?: string } = {}): void {
    this.emitted.push({ type, data, ...more });
  }

  tellToStop(): void {
    this.over.abort();
  }

  async execute<T>(work: (context: Context) => T | Promise<T>): Promise<unknown> {
    const { protocol } = this.run.ledger;
    let result: Json;
    try {
      result = asJson(await work(this));
    } catch (error) {
      await this.failed(error);
      throw error;
    }
    await protocol.complete(this.run.name, this.grant, result, this.emitted);
    return result;
  }

  /** Tells the ledger what an error of the work means. */
  private async failed(error: unknown): Promise<void> {
    const { protocol } = this.run.ledger;
    const { name } = this.run;
    if (error instanceof StepFailed) return protocol.fail(name, this.grant, error.error, this.emitted);
    this.tellToStop();
    await this.beats;
    if (this.signal.aborted) throw new LeaseLost(`step ${JSON.stringify(this.step)} was taken over while it was executed`);
    if (error instanceof NotExecuted) return protocol.release(name, this.grant).catch(unless(HookonceError));
    // What happened is not known: whoever asks next is not kept waiting for the lease.
    await protocol.heartbeat(name, this.grant, ABANDON_MS, ABANDON_GIVE_UP_MS).catch(unless(HookonceError));
  }

  /** At a third of the lease, until the work is over or the lease is lost. */
  private async beat(): Promise<void> {
    const { signal } = this.over;
    for (let last = this.grant.claimedAt; ; ) {
      await pause(Math.max(0, this.leaseMs / 3 - (performance.now() - last)), signal);
      if (signal.aborted) return;
      last = performance.now();
      try {
        await this.run.ledger.protocol.heartbeat(this.run.name, this.grant, this.leaseMs, this.leaseMs / 3, signal);
        this.leasedFrom = last;
        this.heartbeats++;
      } catch (error) {
        if (error instanceof LeaseLost) return this.lost.abort(error);
        // The next beat may get through.
      }
    }
  }
}

/** As every later caller will see it. What is no JSON is an error of the work. */
function asJson(value: unknown): Json {
  if (value === undefined) return null;
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new TypeError("a step's result is JSON");
  return JSON.parse(text) as Json;
}
