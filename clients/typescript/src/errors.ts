/** What can go wrong, each by its own name. */

import type { Json } from "./protocol.js";

export class HookonceError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** Nobody answered, or 503 and 429 alone, for as long as the client was told to try. Whether the last call was done is not known. */
export class Unavailable extends HookonceError {}

/** The call was answered with a problem that trying again does not cure: a token, a name, a size. */
export class Refused extends HookonceError {
  constructor(
    readonly status: number,
    readonly kind: string,
    detail: string,
  ) {
    super(detail ? `${status} ${kind}: ${detail}` : `${status} ${kind}`);
  }
}

/** Another is executing the step, and did not end within `waitMs`. */
export class StepRunning extends HookonceError {
  constructor(
    readonly step: string,
    readonly owner: string | null,
    readonly retryAfterSeconds: number,
  ) {
    super(`step ${JSON.stringify(step)} is being executed by ${owner ?? "another"}`);
  }
}

/** Who executed the step was lost, and nobody knows what came of it: find out, then resolve it with this fence. */
export class OutcomeUnknown extends HookonceError {
  constructor(
    readonly run: string,
    readonly step: string,
    readonly fence: number,
  ) {
    super(`the outcome of step ${JSON.stringify(step)} of run ${JSON.stringify(run)} is not known (fence ${fence})`);
  }
}

/** The step was claimed before with another input: a step is one piece of work. */
export class InputChanged extends HookonceError {}

/** The step, or the key, is no longer this holder's: stop, and record nothing. */
export class LeaseLost extends HookonceError {}

/** The step has failed for good. Thrown by the work, `error` is recorded as its end and given to all who come later. */
export class StepFailed extends HookonceError {
  constructor(readonly error: Json) {
    super(`the step failed: ${JSON.stringify(error)}`);
  }
}

/** Thrown by the work: nothing was done, and the step is given back at once. */
export class NotExecuted extends HookonceError {}

/** Another is handling the key: neither handle it nor acknowledge the message. */
export class KeyLeased extends HookonceError {
  constructor(
    key: string,
    readonly retryAfterSeconds: number,
  ) {
    super(`key ${JSON.stringify(key)} is being handled by another`);
  }
}

/** The request is not one that hookonce signed for this handler, or is too old. `reason` is a stable code. */
export class VerificationFailed extends HookonceError {
  constructor(readonly reason: string) {
    super(reason);
  }
}
