/** Do the work once: the client of hookonce's step ledger, dedup and relayed webhooks. */

export * from "./errors.js";
export { Handler, type Answer, type HandlerOptions, type Work } from "./handler.js";
export {
  type Context,
  DedupLease,
  Ledger,
  type LedgerOptions,
  type Reconcile,
  Run,
  type StepOptions,
} from "./ledger.js";
export {
  type Ended,
  type Grant,
  inputHash,
  type Json,
  type LostStep,
  type OnLost,
  type Outcome,
  type StepState,
} from "./protocol.js";
export { type RelayedEvent, verify, type VerifyOptions } from "./webhook.js";
