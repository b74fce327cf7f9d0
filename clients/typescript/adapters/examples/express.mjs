/** A handler of webhooks in Express, killed between the charge and its record: `node examples/express.mjs` */

import express from "express";
import { Handler, Ledger, verify } from "hookonce";
import { webhook } from "hookonce/express";

import { charge, LEASE_MS, reconcile, SECRET } from "./effect.mjs";
import { main } from "./killed.mjs";

function serve(isWith, port) {
  const app = express();
  if (isWith) {
    const handler = new Handler(new Ledger(), { secrets: SECRET, onLost: "hold", leaseMs: LEASE_MS, reconcile });
    app.post("/webhooks", webhook(handler, async (context, event) => charge(event.json().order, context.effectKey)));
  } else {
    app.post("/webhooks", express.raw({ type: () => true }), async (request, response) => {
      const event = await verify(request.headers, request.body, SECRET);
      await charge(event.json().order, null);
      response.json({ status: "done" });
    });
  }
  app.listen(port, "127.0.0.1");
}

await main(import.meta.url, { serve });
