/** One of several threads or processes that execute the same steps: says which it executed. */

import { parentPort } from "node:worker_threads";

import { Ledger } from "../src/index.js";

const run = new Ledger().run(process.env.RUN!);
let executed = 0;
const work = (number: number) => () => {
  executed++;
  return number;
};
const results = await Promise.all(Array.from({ length: 20 }, (_, number) => run.execute(`s${number}`, work(number))));
const said = { executed, owner: run.ledger.protocol.owner, results };
if (parentPort) parentPort.postMessage(said);
else process.send!(said, () => process.exit());
