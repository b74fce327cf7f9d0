/** What can go wrong, each by its own name. */

import { type Json, shown } from "./json.js";
import { refusal, type StepOutcome } from "./outcome.js";

const BRAND = Symbol.for("hookonce.error");

export class HookonceError extends Error {
  static readonly [BRAND] = true;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }

  /** The package may be there twice, as an ES module and as CommonJS. An error of the one is one of the other, by its class's name. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    for (let at: unknown = value; typeof at === "object" && at !== null; at = Object.getPrototypeOf(at)) {
      const kind = (at as object).constructor as { name: string; [BRAND]?: boolean } | undefined;
      if (kind === (this as unknown) || (kind?.[BRAND] && kind.name === this.name)) return true;
    }
    return false;
  }
}

/** Nobody answered, or 503 and 429 alone, for as long as the client was told to try. Whether the last call was done is not known. */
export class Unavailable extends HookonceError {}

/** The call was answered with a problem that trying again does not cure: a token, a name, a size. */
export class Refused extends HookonceError {
  constructor(
    readonly status: number,
    readonly kind: string,
    readonly detail: string,
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

/** The event that the step waits for has not come within `waitMs`: ask again, now or after a restart. */
export class StepWaiting extends HookonceError {
  constructor(
    readonly step: string,
    readonly retryAfterSeconds: number,
  ) {
    super(`step ${JSON.stringify(step)} still waits for its event`);
  }
}

interface Lost {
  owner: string | null;
  claimedAt: string | null;
  effectKey: string | null;
  error: Json;
}

/** Who executed the step was lost, and nobody knows what came of it: find out, then resolve it with this fence. */
export class OutcomeUnknown extends HookonceError {
  declare readonly owner: string | null;
  /** RFC 3339. */
  declare readonly claimedAt: string | null;
  declare readonly effectKey: string | null;
  /** What the holder said as it gave up; null where it said nothing. */
  declare readonly error: Json;

  constructor(
    readonly run: string,
    readonly step: string,
    readonly fence: number,
    { owner = null, claimedAt = null, effectKey = null, error = null }: Partial<Lost> = {},
  ) {
    const by = owner === null ? "whoever executed it" : `${owner}, who executed it,`;
    super(
      `outcome unknown, not executed again: step ${JSON.stringify(step)} of run ${JSON.stringify(run)}: ${by} was lost, and its effect may have ` +
        `happened. Find out, then resolve the step (fence ${fence})`,
    );
    Object.assign(this, { owner, claimedAt, effectKey, error });
  }
}

/** The step was claimed before with another input: a step is one piece of work. */
export class InputChanged extends HookonceError {}

/** The step, or the key, is no longer this holder's: stop, and record nothing. */
export class LeaseLost extends HookonceError {}

/** The step has failed for good. Thrown by the work, `error` is recorded as its end and given to all who come later. */
export class StepFailed extends HookonceError {
  readonly error: Json;

  /** `error` is whatever can be JSON. Of one that had failed before, `outcome` says when and by whom. */
  constructor(
    error: unknown,
    readonly outcome: StepOutcome<Json> | null = null,
  ) {
    super(`the step failed: ${shown(error)}`);
    this.error = error as Json;
  }
}

/** No such event came in time. The step has ended so: whoever asks again is told the same. */
export class WaitTimedOut extends StepFailed {}

/** Thrown by the work: nothing was done, and the step is given back at once. */
export class NotExecuted extends HookonceError {}

/**
 * The step is done, and its result could not be kept: it was too large, or no JSON. It is not executed again. `run.outcome` and `run.call`
 * give its outcome instead of this error.
 */
export class ResultNotKept extends HookonceError {
  constructor(
    readonly step: string,
    readonly outcome: StepOutcome<null>,
  ) {
    super(`step ${JSON.stringify(step)}: ${outcome.message}`);
  }
}

/** A repeat of a call under `repeat: "ask"`: nothing was executed. `outcome` is that of the first. */
export class RepeatRefused extends HookonceError {
  constructor(
    readonly tool: string,
    readonly args: unknown,
    readonly outcome: StepOutcome<unknown>,
  ) {
    super(refusal(tool, outcome));
  }
}

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

/** A body parser came first, and the exact bytes, which the signature covers, are gone. The message says what to change. */
export class BodyAlreadyParsed extends HookonceError {}
