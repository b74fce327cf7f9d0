/** A handler of relayed events that does each event's work once: verify, claim by the event's id, work, complete. */

import {
  BodyAlreadyParsed,
  LeaseLost,
  NotExecuted,
  OutcomeUnknown,
  StepFailed,
  StepRunning,
  Unavailable,
  VerificationFailed,
} from "./errors.js";
import type { Context } from "./holder.js";
import type { Ledger } from "./ledger.js";
import type { OnLost } from "./protocol.js";
import type { Reconcile } from "./run.js";
import { type HeadersLike, type RelayedEvent, verify } from "./webhook.js";

export type Work = (context: Context, event: RelayedEvent) => unknown;

export interface HandlerOptions {
  /** The destination's `signing_secret`; several while rotating. */
  secrets: string | readonly string[];
  /** Each event is a run `{name}:{event id}` with a step "handle". Default: "webhook". */
  name?: string;
  leaseMs?: number;
  /**
   * Default: "retry": a handler that died is called again with the same `effectKey`. With "hold" a lost event waits, answered 503, until
   * somebody or `reconcile` resolves it.
   */
  onLost?: OnLost;
  reconcile?: Reconcile;
  toleranceSeconds?: number;
  /** Largest body that `node` reads. Default: 16 MiB. */
  bodyBytesMax?: number;
  now?: () => number;
  /** Is told the errors that are answered 500: those of the work's own, from `node`, and a body that was parsed. Default: `console.error`. */
  onError?: (error: unknown) => void;
}

/** What to answer hookonce with. */
export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** As much of `node:http` as is needed. */
export interface NodeRequest extends AsyncIterable<Uint8Array> {
  readonly headers: Record<string, string | string[] | undefined>;
  readonly readableDidRead?: boolean;
}
export interface NodeResponse {
  writeHead(status: number, headers: Record<string, string>): unknown;
  end(body: string): unknown;
}

const UNKNOWN_RETRY_SECONDS = 60;

/** Handles relayed events for one destination. An error of the work's own makes hookonce try again; `StepFailed` ends the delivery for good. */
export class Handler {
  constructor(
    private readonly ledger: Ledger,
    private readonly options: HandlerOptions,
  ) {}

  /** `body` is the exact bytes that came. Errors of the work's own are thrown. */
  async handle(headers: HeadersLike, body: Uint8Array | string, work: Work): Promise<Answer> {
    const { secrets, name = "webhook", leaseMs = 30_000, onLost = "retry", reconcile, toleranceSeconds = 300, now } = this.options;
    try {
      const event = await verify(headers, body, secrets, { toleranceSeconds, ...(now && { now: now() }) });
      const terms = { leaseMs, onLost, waitMs: 0, ...(reconcile && { reconcile }) };
      await this.ledger.run(`${name}:${event.id}`).execute("handle", (context) => work(context, event), terms);
      return answer(200, "done");
    } catch (error) {
      return answerToError(error);
    }
  }

  /** For servers that speak `Request` and `Response`. Errors of the work's own are thrown. */
  fetch(work: Work): (request: Request) => Promise<Response> {
    return async (request) => responseOf(await this.answerTo(() => bytesOf(request, "read it before, or give the handler a clone"), request.headers, work));
  }

  /** For `http.createServer`. Errors of the work's own are answered 500. */
  node(work: Work): (request: NodeRequest, response: NodeResponse) => Promise<void> {
    return async (request, response) => {
      const { status, headers, body } = await this.answerNode(request, work, "call the handler before it is read").catch((error: unknown) => {
        this.report(error);
        return answer(500, "failed");
      });
      response.writeHead(status, headers);
      response.end(body);
    };
  }

  /** `cure`: what to write where the body was read before. */
  answerNode(request: NodeRequest, work: Work, cure: string): Promise<Answer> {
    return this.answerTo(() => bytesOfNode(request, this.bodyBytesMax, cure), request.headers, work);
  }

  /** The answer to a request whose body is to be had so. A body that was parsed before is an error of the setup, and answered as one. */
  async answerTo(bytes: () => Promise<Uint8Array | null>, headers: HeadersLike, work: Work): Promise<Answer> {
    let body: Uint8Array | null;
    try {
      body = await bytes();
    } catch (error) {
      if (!(error instanceof BodyAlreadyParsed)) throw error;
      this.report(error);
      return { ...answer(500, ""), body: JSON.stringify({ status: "misconfigured", detail: error.message }) };
    }
    return body === null ? answer(413, "too-large") : this.handle(headers, body, work);
  }

  get bodyBytesMax(): number {
    return this.options.bodyBytesMax ?? 16 << 20;
  }

  private report(error: unknown): void {
    (this.options.onError ?? console.error)(error);
  }
}

export function responseOf({ status, headers, body }: Answer): Response {
  return new Response(body, { status, headers });
}

/** The bytes of a `Request`. */
export async function bytesOf(request: Request, cure: string): Promise<Uint8Array> {
  if (request.bodyUsed) throw alreadyParsed(cure);
  return new Uint8Array(await request.arrayBuffer());
}

/** Null where they are too many. Where a parser has read them, those that it kept: `rawBody`, or a `body` that is bytes or text. */
async function bytesOfNode(request: NodeRequest, most: number, cure: string): Promise<Uint8Array | null> {
  if (request.readableDidRead) {
    const { rawBody, body } = request as { rawBody?: unknown; body?: unknown };
    const kept = rawBody ?? body;
    if (kept instanceof Uint8Array) return kept;
    if (typeof kept === "string") return new TextEncoder().encode(kept);
    throw alreadyParsed(cure);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > most) return null;
    chunks.push(chunk);
  }
  const body = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}

export function alreadyParsed(cure: string): BodyAlreadyParsed {
  return new BodyAlreadyParsed(`the body was read before it came here, and its exact bytes, which the signature covers, are gone: ${cure}`);
}

function answer(status: number, said: string, more: Record<string, string> = {}): Answer {
  return { status, headers: { "content-type": "application/json", ...more }, body: JSON.stringify({ status: said }) };
}

/** What makes hookonce do the right thing next. */
function answerToError(error: unknown): Answer {
  if (error instanceof VerificationFailed) return answer(401, "refused");
  if (error instanceof StepFailed) return answer(422, "failed", { "hookonce-retry": "no" });
  if (error instanceof OutcomeUnknown) return answer(503, "unknown", { "retry-after": String(UNKNOWN_RETRY_SECONDS) });
  if (error instanceof StepRunning) return answer(503, "running", { "retry-after": String(Math.round(error.retryAfterSeconds)) });
  if (error instanceof NotExecuted || error instanceof LeaseLost || error instanceof Unavailable) {
    return answer(503, "not-done", { "retry-after": "1" });
  }
  throw error;
}
