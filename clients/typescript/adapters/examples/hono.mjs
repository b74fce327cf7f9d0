/** A handler of webhooks in Hono, killed between the charge and its record: `node examples/hono.mjs` */

import { serve as listen } from "@hono/node-server";
import { Hono } from "hono";
import { Handler, Ledger, verify } from "hookonce";
import { webhook } from "hookonce/hono";

import { charge, LEASE_MS, reconcile, SECRET } from "./effect.mjs";
import { main } from "./killed.mjs";

function serve(isWith, port) {
  const app = new Hono();
  if (isWith) {
    const handler = new Handler(new Ledger(), { secrets: SECRET, onLost: "hold", leaseMs: LEASE_MS, reconcile });
    app.post("/webhooks", webhook(handler, async (context, event) => charge(event.json().order, context.effectKey)));
  } else {
    app.post("/webhooks", async (context) => {
      const event = await verify(context.req.raw.headers, await context.req.text(), SECRET);
      await charge(event.json().order, null);
      return context.json({ status: "done" });
    });
  }
  listen({ fetch: app.fetch, port, hostname: "127.0.0.1" });
}

await main(import.meta.url, { serve });
