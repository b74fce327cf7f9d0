/** A handler of relayed events for Fastify 4 and 5. */

import type { Handler, Work } from "./handler.js";
import { needs } from "./needs.js";

export { Handler, Ledger } from "./index.js";

needs("fastify", "fastify", () => import("fastify"));

/** As much of a Fastify instance as is needed. */
interface Scope {
  removeAllContentTypeParsers(): unknown;
  addContentTypeParser(...given: any[]): unknown;
  post(...given: any[]): unknown;
}
interface Incoming {
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: unknown;
}
interface Reply {
  code(status: number): Reply;
  headers(headers: Record<string, string>): Reply;
  send(body: string): Reply;
}

/**
 * `app.register(webhook(handler, work, "/webhooks"))`. A plugin with a scope of its own, in which no parser reads the body; those of other
 * routes stay. Errors of the work's own go to Fastify's error handler.
 */
export function webhook(handler: Handler, work: Work, path = "/webhooks"): (scope: Scope) => Promise<void> {
  return async (scope) => {
    scope.removeAllContentTypeParsers();
    const options = { parseAs: "buffer", bodyLimit: handler.bodyBytesMax };
    scope.addContentTypeParser("*", options, (_: unknown, body: Uint8Array, done: (error: null, body: Uint8Array) => void) => done(null, body));
    scope.post(path, async (request: Incoming, reply: Reply) => {
      const bytes = request.body instanceof Uint8Array ? request.body : new Uint8Array();
      const { status, headers, body } = await handler.handle(request.headers, bytes, work);
      return reply.code(status).headers(headers).send(body);
    });
  };
}
