import { Handler, Ledger, verify } from "hookonce";
import { webhook } from "hookonce/next";

import { charge, LEASE_MS, reconcile, SECRET } from "../../../effect.mjs";

const handler = new Handler(new Ledger(), { secrets: SECRET, onLost: "hold", leaseMs: LEASE_MS, reconcile });
const once = webhook(handler, async (context, event) => charge(event.json().order, context.effectKey));

async function withoutHookonce(request) {
  const event = await verify(request.headers, await request.text(), SECRET);
  await charge(event.json().order, null);
  return Response.json({ status: "done" });
}

export const POST = process.env.WITH === "yes" ? once : withoutHookonce;
