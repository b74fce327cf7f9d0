/** How a step came out, as callers see it, and in words for models. */

import { type Json, shown } from "./json.js";

/** Why a step that is done has no result. */
export interface ResultNotKeptReason {
  readonly reason: "too-large" | "not-encodable";
  readonly detail: string | null;
}

/** A step that needs no execution. Of a failed one `result` is the error that was recorded. */
export interface Ended {
  readonly status: "done" | "failed";
  readonly result: Json;
  /** When it ended, by the ledger's clock (RFC 3339). */
  readonly endedAt: string | null;
  readonly owner: string | null;
  /** When this was read, by the ledger's clock. */
  readonly replayedAt: string | null;
  readonly resultNotKept: ResultNotKeptReason | null;
}

/** What `run.outcome` and `run.call` give. */
export interface StepOutcome<T> {
  /**
   * As JSON has it, the first time as every time after. Of one that was not kept: what the work returned, the first time; then null. Of a
   * failed one the error that was recorded.
   */
  readonly result: T;
  /** One that failed is only found in a `StepFailed`. */
  readonly status: "done" | "failed";
  /** When the ledger gave this answer, by its own clock (RFC 3339); null where the work was executed just now. */
  readonly replayedAt: string | null;
  /** When the step ended, by the ledger's clock; null where the work was executed just now. */
  readonly endedAt: string | null;
  /** By whom; null where nobody said. */
  readonly owner: string | null;
  /** Why there is no result, though the step is done. */
  readonly resultNotKept: ResultNotKeptReason | null;
  /** What happened, in words that a model understands. */
  readonly message: string;
}

export function replayed(ended: Ended): StepOutcome<Json> {
  const { status, result, endedAt, owner, resultNotKept } = ended;
  // A ledger that does not say when: that it is a replay is known all the same.
  const replayedAt = ended.replayedAt ?? new Date().toISOString();
  const rest = resultNotKept
    ? `its result was not kept (${resultNotKept.reason}).`
    : status === "failed"
      ? "it failed, and this is the error."
      : "this is its result.";
  const message = `Not executed again: this same call was done${whenOf(ended)}; ${rest}`;
  return { result, status, replayedAt, endedAt, owner, resultNotKept, message };
}

export function executed<T>(result: T, owner: string, resultNotKept: ResultNotKeptReason | null): StepOutcome<T> {
  const message = resultNotKept ? `Executed now. Its result was not kept (${resultNotKept.reason}).` : "Executed now.";
  return { result, status: "done", replayedAt: null, endedAt: null, owner, resultNotKept, message };
}

/** Why a repeat is refused, and what to do. */
export function refusal(tool: string, outcome: StepOutcome<unknown>): string {
  const { resultNotKept, result } = outcome;
  const what = resultNotKept ? `Its result was not kept (${resultNotKept.reason})` : `Its result: ${shown(result)}`;
  return (
    `Not executed: ${tool} was called before with these same arguments, and it was done${whenOf(outcome)}. ${what}. To take what came of ` +
    'it, call again with repeat "once". To do it once more, call again with repeat "numbered".'
  );
}

function whenOf({ endedAt, owner }: { endedAt: string | null; owner: string | null }): string {
  const at = endedAt === null ? " before" : ` at ${toTheSecond(endedAt)}`;
  return owner === null ? at : `${at} by ${owner}`;
}

function toTheSecond(time: string): string {
  const read = new Date(time);
  return Number.isNaN(read.getTime()) ? time : read.toISOString().replace(/\.\d+Z$/, "Z");
}
