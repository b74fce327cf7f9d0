/** A handler of relayed events that does each event's work once: verify, claim by the event's id, work, complete. */

import { LeaseLost, NotExecuted, OutcomeUnknown, StepFailed, StepRunning, Unavailable, VerificationFailed } from "./errors.js";
import type { Context, Ledger, Reconcile } from "./ledger.js";
import type { OnLost } from "./protocol.js";
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
}

/** What to answer hookonce with. */
export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** As much of `node:http` as is needed. */
interface NodeRequest extends AsyncIterable<Uint8Array> {
  readonly headers: Record<string, string | string[] | undefined>;
}
interface NodeResponse {
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
      return answerTo(error);
    }
  }

  /** For servers that speak `Request` and `Response`. */
  fetch(work: Work): (request: Request) => Promise<Response> {
    return async (request) => {
      const { status, headers, body } = await this.handle(request.headers, new Uint8Array(await request.arrayBuffer()), work);
      return new Response(body, { status, headers });
    };
  }

  /** For `http.createServer`, and for Express before any body parser. Errors of the work's own are answered 500. */
  node(work: Work): (request: NodeRequest, response: NodeResponse) => Promise<void> {
    return async (request, response) => {
      const { status, headers, body } = await this.answerNode(request, work).catch(() => answer(500, "failed"));
      response.writeHead(status, headers);
      response.end(body);
    };
  }

  private async answerNode(request: NodeRequest, work: Work): Promise<Answer> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of request) {
      size += chunk.length;
      if (size > (this.options.bodyBytesMax ?? 16 << 20)) return answer(413, "too-large");
      chunks.push(chunk);
    }
    const body = new Uint8Array(size);
    let at = 0;
    for (const chunk of chunks) {
      body.set(chunk, at);
      at += chunk.length;
    }
    return this.handle(request.headers, body, work);
  }
}

function answer(status: number, said: string, more: Record<string, string> = {}): Answer {
  return { status, headers: { "content-type": "application/json", ...more }, body: JSON.stringify({ status: said }) };
}

/** What makes hookonce do the right thing next. */
function answerTo(error: unknown): Answer {
  if (error instanceof VerificationFailed) return answer(401, "refused");
  if (error instanceof StepFailed) return answer(422, "failed", { "hookonce-retry": "no" });
  if (error instanceof OutcomeUnknown) return answer(503, "unknown", { "retry-after": String(UNKNOWN_RETRY_SECONDS) });
  if (error instanceof StepRunning) return answer(503, "running", { "retry-after": String(Math.round(error.retryAfterSeconds)) });
  if (error instanceof NotExecuted || error instanceof LeaseLost || error instanceof Unavailable) {
    return answer(503, "not-done", { "retry-after": "1" });
  }
  throw error;
}
