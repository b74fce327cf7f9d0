/** A handler of webhooks in Fastify, killed between the charge and its record: `node examples/fastify.mjs` */

import fastify from "fastify";
import { Handler, Ledger, verify } from "hookonce";
import { webhook } from "hookonce/fastify";

import { charge, LEASE_MS, reconcile, SECRET } from "./effect.mjs";
import { main } from "./killed.mjs";

function serve(isWith, port) {
  const app = fastify();
  if (isWith) {
    const handler = new Handler(new Ledger(), { secrets: SECRET, onLost: "hold", leaseMs: LEASE_MS, reconcile });
    app.register(webhook(handler, async (context, event) => charge(event.json().order, context.effectKey), "/webhooks"));
  } else {
    app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, body, done) => done(null, body));
    app.post("/webhooks", async (request) => {
      const event = await verify(request.headers, request.body, SECRET);
      await charge(event.json().order, null);
      return { status: "done" };
    });
  }
  app.listen({ port, host: "127.0.0.1" });
}

await main(import.meta.url, { serve });
