/** A handler of relayed events for Express 4 and 5. */

import { type Handler, type NodeRequest, type NodeResponse, type Work } from "./handler.js";
import { needs } from "./needs.js";

export { Handler, Ledger } from "./index.js";

needs("express", "express", () => import("express"));

const CURE =
  "register the handler before app.use(express.json()), or give its route express.raw({ type: () => true }), or keep the bytes: " +
  "express.json({ verify: (request, response, bytes) => { request.rawBody = bytes } })";

/**
 * `app.post("/webhooks", webhook(handler, work))`. It reads the body itself, or takes the bytes that `express.raw` or a `verify` hook of
 * another parser kept as `rawBody`; a body that was parsed without is answered 500, which says what to change. Errors of the work's own go to
 * `next`.
 */
export function webhook(handler: Handler, work: Work): (request: NodeRequest, response: NodeResponse, next: (error: unknown) => void) => Promise<void> {
  return async (request, response, next) => {
    try {
      const { status, headers, body } = await handler.answerNode(request, work, CURE);
      response.writeHead(status, headers);
      response.end(body);
    } catch (error) {
      next(error);
    }
  };
}
