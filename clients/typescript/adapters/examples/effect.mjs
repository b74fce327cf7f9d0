/** The effect of the examples: a charge, in a world that charges whoever it is told to, as often as it is told. */

export const SECRET = "whsec_aG9va29uY2UtZXhhbXBsZS1zZWNyZXQh";
/** Longer than a charge may be on its way after its caller has died: after that, what the world has not seen did not happen. */
export const LEASE_MS = 1_000;
const { env } = process;

/** The effect. In the first life the process dies as soon as it has happened. */
export async function charge(order, key) {
  const response = await fetch(`${env.WORLD}/charges`, { method: "POST", body: JSON.stringify({ order, key }) });
  const { charge } = await response.json();
  if (env.LIFE === "1") process.kill(process.pid, "SIGKILL");
  return charge;
}

/** What became of a lost step: the world knows its charges by the key. */
export async function reconcile({ effectKey }) {
  const { charge } = await (await fetch(`${env.WORLD}/charges?${effectKey}`)).json();
  return charge
    ? { outcome: "done", result: charge, evidence: "the world has it in its list" }
    : { outcome: "not-executed", evidence: "the world has no such charge" };
}
