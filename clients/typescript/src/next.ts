/** A handler of relayed events for route handlers of Next (`app/…/route.ts`). */

import { bytesOf, type Handler, responseOf, type Work } from "./handler.js";
import { needs } from "./needs.js";

export { Handler, Ledger } from "./index.js";

needs("next", "next", () => import("next/server.js"));

const CURE = "call the handler before request.json() or request.text(), or give it request.clone()";

/**
 * `export const POST = webhook(handler, work)`. A body that was read before is answered 500, which says what to change. Errors of the work's
 * own are thrown, and Next answers 500. For the pages router use `handler.node(work)` with `config = { api: { bodyParser: false } }`.
 */
export function webhook(handler: Handler, work: Work): (request: Request) => Promise<Response> {
  return async (request) => responseOf(await handler.answerTo(() => bytesOf(request, CURE), request.headers, work));
}
