// Restate's service, invoked with an idempotency key: one handler that does nothing, so that what is measured is Restate's own durable, once-only
// acceptance, one that records one step, and one that posts the event on. PORT and HANDLER, the URL that it is posted to, by environment.
import * as restate from '@restatedev/restate-sdk';

const webhook = restate.service({
  name: 'webhook',
  handlers: {
    receive: async (_, event) => ({ id: event.id }),
    relay: async (_, event) => {
      const answer = await fetch(process.env.HANDLER, {
        method: 'POST', body: JSON.stringify(event), headers: { 'hookonce-event-key': event.id },
      });
      await answer.arrayBuffer();
      if (!answer.ok) throw new Error(`answered ${answer.status}`);
    },
    step: async (context, event) => ({ id: await context.run('charge', () => event.id) }),
  },
});
await restate.serve({ services: [webhook], port: Number(process.env.PORT) });
