/** Do the work once: the client of hookonce's step ledger, dedup and relayed webhooks. */

export { DedupLease } from "./dedup.js";
export {
  BodyAlreadyParsed,
  HookonceError,
  InputChanged,
  KeyLeased,
  LeaseLost,
  NotExecuted,
  OutcomeUnknown,
  Refused,
  RepeatRefused,
  ResultNotKept,
  StepFailed,
  StepRunning,
  StepWaiting,
  Unavailable,
  VerificationFailed,
  WaitTimedOut,
} from "./errors.js";
export { type Answer, Handler, type HandlerOptions, type Work } from "./handler.js";
export type { Context } from "./holder.js";
export { callStep, canonicalJson, type Encode, inputHash, type Json, type Kept } from "./json.js";
export { type FunctionOptions, Ledger, type LedgerOptions } from "./ledger.js";
export type { Ended, ResultNotKeptReason, StepOutcome } from "./outcome.js";
export type { EventFound, EventWanted, Grant, LostStep, OnLost, Outcome, StepState } from "./protocol.js";
export { type CallOptions, type Reconcile, type Repeat, Run, type StepOptions, type WaitOptions } from "./run.js";
export { type HeadersLike, type RelayedEvent, verify, type VerifyOptions } from "./webhook.js";
