/** A handler of relayed events for Hono, on whatever it runs. */

import { alreadyParsed, bytesOf, type Handler, responseOf, type Work } from "./handler.js";
import { needs } from "./needs.js";

export { Handler, Ledger } from "./index.js";

needs("hono", "hono", () => import("hono"));

/** As much of a Hono context as is needed. */
interface HonoContext {
  readonly req: {
    readonly raw: Request;
    readonly bodyCache: object;
    arrayBuffer(): Promise<ArrayBuffer>;
  };
}

const CURE = "register the handler before what reads it as a form, or read it there as c.req.text() or c.req.arrayBuffer()";

/**
 * `app.post("/webhooks", webhook(handler, work))`. A middleware may have read the body as text, JSON or bytes before; one that was read as a
 * form is answered 500, which says what to change. Errors of the work's own go to `app.onError`.
 */
export function webhook(handler: Handler, work: Work): (context: HonoContext) => Promise<Response> {
  return async ({ req }) => {
    const bytes = async () => {
      if (!req.raw.bodyUsed) return bytesOf(req.raw, CURE);
      // Hono keeps what was read; a form, or JSON put there by others, does not give the bytes back.
      if ("text" in req.bodyCache || "arrayBuffer" in req.bodyCache) return new Uint8Array(await req.arrayBuffer());
      throw alreadyParsed(CURE);
    };
    return responseOf(await handler.answerTo(bytes, req.raw.headers, work));
  };
}
