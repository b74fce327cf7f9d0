/** A run: a set of named steps that are executed once each. */

import { ABORTED, orAborted } from "./abort.js";
import { InputChanged, LeaseLost, OutcomeUnknown, RepeatRefused, ResultNotKept, StepFailed, WaitTimedOut } from "./errors.js";
import { type Context, Holder, recordDone, unless } from "./holder.js";
import { callStep, digestOf, inputHash, type Kept } from "./json.js";
import type { Ledger } from "./ledger.js";
import { type Ended, replayed, type StepOutcome } from "./outcome.js";
import type { EventFound, EventWanted, Grant, LostStep, OnLost, Outcome, StepState, Terms } from "./protocol.js";

/** Asked what became of a step that was lost; null where it can't tell. */
export type Reconcile = (lost: LostStep) => Outcome | null | Promise<Outcome | null>;

export interface StepOptions {
  /** Extended at a third of it for as long as the work runs. Default: 30,000. */
  leaseMs?: number;
  /** Default: "hold" */
  onLost?: OnLost;
  /** How long to wait while another executes. Default: 30,000. */
  waitMs?: number;
  /** A step that comes again with another input is refused. Whatever can be JSON. */
  input?: unknown;
  reconcile?: Reconcile;
  /**
   * The caller gives up: the work's own signal is given, and the step is abandoned at once, which leaves it unknown under "hold" and free
   * under "retry".
   */
  signal?: AbortSignal;
  /** With it a caller who gives up leaves the work to its end, and its result is kept. */
  detach?: boolean;
}

/**
 * What happens to a call that the run has had before, with the same tool and arguments. "once": it gets the first result. "ask": it is
 * refused with `RepeatRefused`. "numbered": the n-th such call of this `Run` object is the n-th one of the run. `{ after: "10m" }`: it gets the
 * first result for so long after that ended, and is then executed again.
 */
export type Repeat = "once" | "ask" | "numbered" | { readonly after: string };

export interface CallOptions extends Omit<StepOptions, "input"> {
  /** Default: "once" */
  repeat?: Repeat;
}

export interface WaitOptions extends EventWanted {
  /** How long after the first call, by any process, the step fails. */
  timeoutMs: number;
  /** How long this call waits; then `StepWaiting`. Default: until the step has ended. */
  waitMs?: number;
  signal?: AbortSignal;
  /** Default: a name that follows from the event that is waited for. */
  step?: string;
}

export const TERMS = { leaseMs: 30_000, onLost: "hold", waitMs: 30_000 } as const;
const OCCURRENCES_MAX = 10_000;

export class Run {
  private known = new Map<string, StepState>();
  /** Of each call by its arguments, which numbers are to be given next. */
  private readonly numbers = new Map<string, { next: number; free: number[] }>();

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
   * the step is unknown, or under "retry" the next one's. A result that can't be kept is given to this caller alone; whoever comes later gets
   * `ResultNotKept`, and the work is not executed again.
   */
  async execute<T>(step: string, work: (context: Context) => T | Promise<T>, options: StepOptions = {}): Promise<Kept<T>> {
    const outcome = await this.outcome(step, work, options);
    if (outcome.replayedAt !== null && outcome.resultNotKept !== null) throw new ResultNotKept(step, { ...outcome, result: null });
    return outcome.result;
  }

  /** The same, and tells whether this was the first execution, and when and by whom it was done. */
  async outcome<T>(step: string, work: (context: Context) => T | Promise<T>, options: StepOptions = {}): Promise<StepOutcome<Kept<T>>> {
    return (await this.outcomeWhere(step, work, options, () => true))!;
  }

  /**
   * A tool call by its arguments: the step is the tool and the digest of the arguments (RFC 8785) within the run, so a model that plans the
   * same call twice has it done once. The outcome's `message` says so, in words for the model. `args`: whatever can be JSON.
   */
  async call<T>(
    tool: string,
    args: unknown,
    work: (context: Context) => T | Promise<T>,
    { repeat = "once", ...options }: CallOptions = {},
  ): Promise<StepOutcome<Kept<T>>> {
    const age = typeof repeat === "object" ? milliseconds(repeat.after) : null;
    const first = await callStep(tool, args, 1, this.ledger.encode);
    const number = this.takeNumber(first);
    try {
      if (age !== null) return await this.callAfter(first, age, work, options);
      const step = repeat === "numbered" ? nameOf(first, number) : first;
      const outcome = await this.outcome(step, work, options);
      if (repeat === "ask" && outcome.replayedAt !== null) throw new RepeatRefused(tool, args, outcome);
      return outcome;
    } catch (error) {
      // One that did not end has not used its number: the same call made again is the same one.
      if (!(error instanceof StepFailed || error instanceof RepeatRefused)) this.numbers.get(first)!.free.push(number);
      throw error;
    }
  }

  private async callAfter<T>(
    first: string,
    age: number,
    work: (context: Context) => T | Promise<T>,
    options: StepOptions,
  ): Promise<StepOutcome<Kept<T>>> {
    for (let number = 1; number <= OCCURRENCES_MAX; number++) {
      // Both times are the ledger's.
      const isFresh = ({ endedAt, replayedAt }: Ended) => Date.parse(replayedAt ?? "") - Date.parse(endedAt ?? "") < age;
      const step = nameOf(first, number);
      // What `resume` read has no time of the ledger's.
      this.known.delete(step);
      const outcome = await this.outcomeWhere(step, work, options, isFresh);
      if (outcome !== null) return outcome;
    }
    throw new RangeError(`${first}: executed ${OCCURRENCES_MAX.toLocaleString("en")} times in this run, which is the most`);
  }

  /** The lowest number that no call has had: of the calls with the same tool and arguments, the n-th of this object. */
  private takeNumber(first: string): number {
    const numbers = this.numbers.get(first) ?? { next: 1, free: [] };
    this.numbers.set(first, numbers);
    const free = numbers.free.sort((a, b) => b - a).pop();
    return free ?? numbers.next++;
  }

  /**
   * A step that ends with an event: the one that comes, or that came before within its retention, exactly once, over restarts. Where none
   * comes within `timeoutMs` of the first call the step fails: `WaitTimedOut`.
   */
  async waitFor({ timeoutMs, waitMs = Infinity, signal, step: name, ...wanted }: WaitOptions): Promise<EventFound> {
    signal?.throwIfAborted();
    const { source, ...event } = wanted;
    if (Object.keys(event).length === 0) throw new TypeError("waitFor: give at least one of type, key and match");
    const step = name ?? `wait:${source}:${await digestOf(event)}`;
    const known = this.knownEnd(step, null);
    const waiting = known ? Promise.resolve(known) : this.ledger.protocol.wait(this.name, step, wanted, timeoutMs, waitMs, signal);
    const ended = await orAborted(waiting, signal);
    if (ended === ABORTED) {
      waiting.catch(() => {});
      throw signal!.reason;
    }
    if (ended.status === "failed") throw new WaitTimedOut(ended.result, replayed(ended));
    const { received_at: receivedAt, ...rest } = ended.result as unknown as Omit<EventFound, "receivedAt"> & { received_at: string };
    return { ...rest, receivedAt };
  }

  /** The single calls, for who executes in some other way: nobody beats for a claim. */
  async claim(step: string, options: StepOptions & { claimId?: string } = {}): Promise<Grant | Ended> {
    const terms = await termsOf({ waitMs: 0, ...options });
    return this.ledger.protocol.claim(this.name, step, terms, options.claimId ?? crypto.randomUUID(), options.signal);
  }

  heartbeat(grant: Grant, leaseMs: number = TERMS.leaseMs): Promise<void> {
    return this.ledger.protocol.heartbeat(this.name, grant, leaseMs);
  }

  /** A result that can't be kept is recorded as such. */
  async complete(grant: Grant, result: unknown = null): Promise<void> {
    await recordDone(this, grant, result, []);
  }

  fail(grant: Grant, error: unknown): Promise<void> {
    return this.ledger.protocol.fail(this.name, grant, this.ledger.encoded(error), []);
  }

  release(grant: Grant): Promise<void> {
    return this.ledger.protocol.release(this.name, grant);
  }

  /** Stops without knowing what came of it. `error`: why, kept for whoever finds out. The fence that resolves the step. */
  abandon(grant: Grant, error: unknown): Promise<number> {
    return this.ledger.protocol.abandon(this.name, grant, error);
  }

  /** Ends the doubt about an unknown step. */
  resolve(step: string, fence: number, outcome: Outcome): Promise<void> {
    return this.ledger.protocol.resolve(this.name, step, fence, outcome);
  }

  /** Null where the step has ended, and in a way that is not wanted. */
  private async outcomeWhere<T>(
    step: string,
    work: (context: Context) => T | Promise<T>,
    options: StepOptions,
    isWanted: (ended: Ended) => boolean,
  ): Promise<StepOutcome<Kept<T>> | null> {
    const { signal, detach } = options;
    signal?.throwIfAborted();
    const doing = this.perform(step, work, options, isWanted, detach ? undefined : signal);
    const done = await orAborted(doing, detach ? signal : undefined);
    if (done !== ABORTED) return done as StepOutcome<Kept<T>> | null;
    doing.catch(() => {}); // Its caller has gone, and the ledger knows.
    throw signal!.reason;
  }

  private async perform(
    step: string,
    work: (context: Context) => unknown,
    options: StepOptions,
    isWanted: (ended: Ended) => boolean,
    signal: AbortSignal | undefined,
  ): Promise<StepOutcome<unknown> | null> {
    const terms = await termsOf(options);
    const begun = this.knownEnd(step, terms) ?? (await this.beginUnless(signal, step, terms, options.reconcile));
    if (!("status" in begun)) return new Holder(this, begun, terms).execute(work, signal);
    if (!isWanted(begun)) return null;
    if (begun.status === "failed") throw new StepFailed(begun.result, replayed(begun));
    return replayed(begun);
  }

  private knownEnd(step: string, terms: Terms | null): Ended | null {
    const state = this.known.get(step);
    if (state === undefined) return null;
    if (state.inputHash && terms?.inputHash && state.inputHash !== terms.inputHash) {
      throw new InputChanged(`step ${JSON.stringify(step)} was claimed before with another input`);
    }
    const { status, result, endedAt, owner, resultNotKept } = state;
    return { status: status as Ended["status"], result, endedAt, owner, replayedAt: new Date().toISOString(), resultNotKept };
  }

  /** Where the signal is given first, what is granted all the same is given back. */
  private async beginUnless(signal: AbortSignal | undefined, step: string, terms: Terms, reconcile?: Reconcile): Promise<Grant | Ended> {
    const beginning = this.begin(step, terms, reconcile, signal);
    const begun = await orAborted(beginning, signal);
    if (begun !== ABORTED) return begun;
    const giveBack = async () => {
      const grant = await beginning;
      if (!("status" in grant)) await this.ledger.protocol.release(this.name, grant);
    };
    giveBack().catch(() => {});
    throw signal!.reason;
  }

  /** A claim that waited has its lease since some time: one that may be over soon is extended before the work begins. */
  private async freshened(grant: Grant, { leaseMs }: Terms): Promise<Grant> {
    const claimedAt = performance.now();
    if (claimedAt - grant.claimedAt < leaseMs / 3) return grant;
    await this.ledger.protocol.heartbeat(this.name, grant, leaseMs);
    return { ...grant, claimedAt };
  }

  /** Claims. Where the outcome is unknown, asks the hook and records what it says. */
  private async begin(step: string, terms: Terms, reconcile?: Reconcile, signal?: AbortSignal): Promise<Grant | Ended> {
    const { protocol } = this.ledger;
    for (;;) {
      try {
        const begun = await protocol.claim(this.name, step, terms, crypto.randomUUID(), signal);
        return "status" in begun ? begun : await this.freshened(begun, terms);
      } catch (error) {
        if (error instanceof LeaseLost) continue;
        if (!(error instanceof OutcomeUnknown) || reconcile === undefined || signal?.aborted) throw error;
        const outcome = await reconcile(await protocol.lost(this.name, step, error.fence));
        if (outcome === null) throw error;
        // Where another has resolved it meanwhile, the next claim tells.
        await protocol.resolve(this.name, step, error.fence, outcome).catch(unless(LeaseLost));
      }
    }
  }
}

function nameOf(first: string, number: number): string {
  if (number > OCCURRENCES_MAX) throw new RangeError(`${first}: more than ${OCCURRENCES_MAX.toLocaleString("en")} of one call`);
  return number === 1 ? first : `${first}#${number}`;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function milliseconds(duration: string): number {
  const [, count, unit] = /^([0-9]{1,9})(ms|s|m|h|d)$/.exec(duration) ?? [];
  if (unit === undefined) throw new TypeError(`after: a duration is written "90s", "10m", "24h" or "7d", not ${JSON.stringify(duration)}`);
  return Number(count) * UNITS[unit]!;
}

async function termsOf(options: StepOptions): Promise<Terms> {
  const { leaseMs = TERMS.leaseMs, onLost = TERMS.onLost, waitMs = TERMS.waitMs, input } = options;
  if (!(leaseMs > 0)) throw new TypeError(`leaseMs: ${leaseMs} is not above 0`);
  return { leaseMs, onLost, waitMs, inputHash: input === undefined ? null : await inputHash(input) };
}

