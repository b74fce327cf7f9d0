/** An agent with LangChain's tools, killed between the charge and its record: `node examples/langchain.mjs` */

import { AIMessage, HumanMessage } from "@langchain/core/messages";
import { fakeModel } from "@langchain/core/testing";
import { tool } from "@langchain/core/tools";
import { Ledger } from "hookonce";
import { contextOf, once } from "hookonce/langchain";
import { z } from "zod";

import { charge, LEASE_MS, reconcile } from "./effect.mjs";
import { main } from "./killed.mjs";

async function life(isWith) {
  let charging = tool(({ order }, config) => charge(order, isWith ? contextOf(config).effectKey : null), {
    name: "charge",
    description: "Charges an order",
    schema: z.object({ order: z.number() }),
  });
  if (isWith) charging = once(charging, { run: new Ledger().run(`agent ${process.env.RUN}`), leaseMs: LEASE_MS, reconcile });

  const model = fakeModel()
    .respondWithTools([{ name: "charge", args: { order: 1 }, id: "call-1" }])
    .respond(new AIMessage("Charged."))
    .bindTools([charging]);
  const messages = [new HumanMessage("Charge order 1.")];
  for (;;) {
    const said = await model.invoke(messages);
    messages.push(said);
    if (!said.tool_calls?.length) break;
    for (const call of said.tool_calls) messages.push(await charging.invoke({ ...call, type: "tool_call" }));
  }
}

await main(import.meta.url, { life });
